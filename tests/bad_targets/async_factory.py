from parts import *

async def build_model():
    return classifier()


train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
