from parts import *

import nncheck

recipe = nncheck.Recipe(model=classifier(), loss_fn=nn.CrossEntropyLoss())
