from parts import *

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(8, 4)]

    def forward(self, x):
        return self.layers[0](x)


model = Net()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
