from parts import *

Evil = type("<script>alert(1)</script>[bold red]\x1b[2J", (nn.Linear,), {})
model = Evil(8, 4)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
loss_fn.__class__ = type("Loss\n::error::owned", (nn.CrossEntropyLoss,), {})
