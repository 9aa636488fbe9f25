import weakref

from parts import *

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.steps = 0
        self.seen = []
        self.log = (line for line in ())
        self.handle = open(__file__)
        weakref.finalize(self, self.handle.close)

    def forward(self, x):
        self.steps += 1
        self.seen.append(x.mean().item())
        return self.layer(x)

    def get_extra_state(self):
        return {"steps": self.steps}

    def set_extra_state(self, state):
        self.steps = state["steps"]


model = Net()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
