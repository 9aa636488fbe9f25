from parts import *

model = classifier()
train_loader = batches_of()
