from parts import *

class Net(nn.Module):
    def __init__(self, width, depth):
        super().__init__()


train_loader = batches_of()
