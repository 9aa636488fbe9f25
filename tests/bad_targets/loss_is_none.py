from parts import *

model = classifier()
train_loader = batches_of()


def loss_fn(output, target):
    nn.functional.cross_entropy(output, target)
