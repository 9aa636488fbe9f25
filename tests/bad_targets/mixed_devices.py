from parts import *

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.shift = torch.zeros(4, device="meta")

    def forward(self, x):
        return self.layer(x) + self.shift


model = Net()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
