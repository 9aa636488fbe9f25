from parts import *

class Stop(BaseException):
    pass


class Net(nn.Linear):
    def forward(self, x):
        raise Stop("enough")


model = Net(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
