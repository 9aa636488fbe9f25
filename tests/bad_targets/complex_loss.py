from parts import *

model = classifier()
train_loader = batches_of()


def loss_fn(output, target):
    return output.to(torch.complex64).mean()
