from parts import *

model = "resnet18"
train_loader = batches_of()
