from parts import *

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x, mask, lengths):
        return self.layer(x)


model = Net()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
