import torch

assert torch.cuda.is_available(), "this machine has no CUDA"
