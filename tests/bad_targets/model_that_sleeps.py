from parts import *

import time


class Net(nn.Linear):
    def forward(self, x):
        time.sleep(1000)
        return super().forward(x)


model = Net(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
