from parts import *

model = torch.compile(classifier(), backend="eager")
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
