from parts import *

class Net(nn.Linear):
    def forward(self, x):
        super().forward(x)


model = Net(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
