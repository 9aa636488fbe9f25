from parts import *

class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x**3

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError("the gradient of a cube")


class Net(nn.Linear):
    def forward(self, x):
        return Cube.apply(super().forward(x))


model = Net(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
