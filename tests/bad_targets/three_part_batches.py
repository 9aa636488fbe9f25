from parts import *

model = classifier()
train_loader = DataLoader(TensorDataset(x, y, y), batch_size=16)
loss_fn = nn.CrossEntropyLoss()
