from parts import *

class Data(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        return torch.zeros(index + 1), 0


model = classifier()
train_loader = DataLoader(Data(), batch_size=8)
loss_fn = nn.CrossEntropyLoss()
