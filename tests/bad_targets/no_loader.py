from parts import *

model = classifier()
loss_fn = nn.CrossEntropyLoss()
