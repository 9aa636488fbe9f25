from parts import *

for _ in range(20_000):
    print("x" * 200)
model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
