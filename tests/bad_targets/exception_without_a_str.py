from parts import *

class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Net(nn.Linear):
    def forward(self, x):
        raise Odd


model = Net(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
