from parts import *

model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()


def train():
    for inputs, labels in train_loader:
        loss_fn(model(inputs), labels).backward()


def main():
    train()


main()
