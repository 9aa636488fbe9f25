from parts import *

model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
from parts import no_such_name
