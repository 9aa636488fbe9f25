from parts import *

class Net(nn.Linear):
    def forward(self, x):
        raise MemoryError


model = Net(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
