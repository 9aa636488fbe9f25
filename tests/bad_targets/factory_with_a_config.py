from parts import *

def build_model(config):
    return classifier(config.classes)


train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
