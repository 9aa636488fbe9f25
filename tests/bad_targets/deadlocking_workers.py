from parts import *

import time

from torch.utils.data import get_worker_info


class Data(Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, index):
        if get_worker_info() is not None:
            time.sleep(1000)
        return x[index], y[index]


model = classifier()
train_loader = DataLoader(Data(), batch_size=16, num_workers=2, shuffle=True, persistent_workers=True)
loss_fn = nn.CrossEntropyLoss()
