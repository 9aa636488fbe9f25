from parts import *

import nncheck

a = nncheck.Recipe(model=classifier(), train_loader=batches_of(), loss_fn=nn.CrossEntropyLoss())
b = nncheck.Recipe(model=classifier(), train_loader=batches_of(), loss_fn=nn.CrossEntropyLoss())
