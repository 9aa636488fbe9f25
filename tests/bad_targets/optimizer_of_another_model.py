from parts import *

model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(classifier().parameters(), lr=0.1)
