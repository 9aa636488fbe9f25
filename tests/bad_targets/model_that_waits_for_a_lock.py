from parts import *

import threading


class Net(nn.Linear):
    def forward(self, x):
        lock = threading.Lock()
        with lock, lock:
            return super().forward(x)


model = Net(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
