from parts import *

class Data(Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, index):
        if index >= 48:
            raise OSError("image 48 is truncated")
        return x[index], y[index]


model = classifier()
train_loader = DataLoader(Data(), batch_size=16)
loss_fn = nn.CrossEntropyLoss()
