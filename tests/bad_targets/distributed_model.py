from parts import *

import tempfile

import torch.distributed as dist

if not dist.is_initialized():
    dist.init_process_group("gloo", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1)
model = nn.parallel.DistributedDataParallel(classifier())
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
