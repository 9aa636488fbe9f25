import argparse
import logging
import sys
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset, random_split

dir_checkpoint = Path('./checkpoints/')


class progress:
    """What is needed of tqdm, without tqdm."""

    def __init__(self, total, desc, unit='img'):
        self.total, self.desc, self.unit, self.done, self.info = total, desc, unit, 0, ''

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        sys.stderr.write('\n')

    def update(self, n):
        self.done += n
        sys.stderr.write(f'\r{self.desc}: {self.done}/{self.total}{self.unit}{self.info}')

    def set_postfix(self, **kwargs):
        self.info = ', ' + ', '.join(f'{k}={v:.4f}' for k, v in kwargs.items())


class BlobDataset(Dataset):
    """Grey pictures of one to three bright discs under a brightness gradient; the mask says where the discs are."""

    def __init__(self, n, size=24, seed=0):
        g = torch.Generator().manual_seed(seed)
        y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing='ij')
        self.images, self.masks = [], []
        for _ in range(n):
            mask = torch.zeros(size, size, dtype=torch.bool)
            for _ in range(int(torch.randint(1, 4, (1,), generator=g))):
                cx, cy, r = (torch.rand(3, generator=g) * torch.tensor([size, size, 3.]) + torch.tensor([0., 0., 2.5]))
                mask |= (x - cx) ** 2 + (y - cy) ** 2 <= r ** 2
            slope = torch.randn(2, generator=g) * 0.5
            background = (slope[0] * x + slope[1] * y) / size
            image = background + mask * 1.0 + 0.25 * torch.randn(size, size, generator=g)
            self.images.append(((image - image.mean()) / image.std()).unsqueeze(0))
            self.masks.append(mask.long())

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        return {'image': self.images[idx], 'mask': self.masks[idx]}


class DoubleConv(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=8):
        super().__init__()
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.conv1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2)
        self.conv2 = DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


def dice_coeff(input, target, epsilon=1e-6):
    # both (N, C, H, W); one coefficient per picture and class, then their mean
    both = (input * target).flatten(2).sum(-1)
    either = (input + target).flatten(2).sum(-1)
    return ((2 * both + epsilon) / (either + epsilon)).mean()


def dice_loss(input, target):
    return 1 - dice_coeff(input, target)


@torch.inference_mode()
def evaluate(net, dataloader, device):
    net.eval()
    dice_score, n = 0, 0
    for batch in dataloader:
        image, mask_true = batch['image'].to(device), batch['mask'].to(device)
        mask_pred = net(image)
        # hard masks, and the background does not count
        mask_true = F.one_hot(mask_true, net.n_classes).permute(0, 3, 1, 2).float()
        mask_pred = F.one_hot(mask_pred.argmax(dim=1), net.n_classes).permute(0, 3, 1, 2).float()
        dice_score += dice_coeff(mask_pred[:, 1:], mask_true[:, 1:]) * len(image)
        n += len(image)
    net.train()
    return dice_score / n


def train_model(model, device, epochs, batch_size, learning_rate, val_percent=0.15, gradient_clipping=1.0):
    dataset = BlobDataset(640)
    n_val = int(len(dataset) * val_percent)
    n_train = len(dataset) - n_val
    train_set, val_set = random_split(dataset, [n_train, n_val], generator=torch.Generator().manual_seed(0))
    loader_args = dict(batch_size=batch_size, num_workers=0)
    train_loader = DataLoader(train_set, shuffle=True, **loader_args)
    val_loader = DataLoader(val_set, shuffle=False, drop_last=False, **loader_args)

    logging.info(f'Starting training: {epochs} epochs, {n_train} pictures to train, {n_val} to validate, on {device}')
    optimizer = optim.RMSprop(model.parameters(), lr=learning_rate, weight_decay=1e-8, momentum=0.5)
    criterion = nn.CrossEntropyLoss()
    global_step = 0

    model.train()
    for epoch in range(1, epochs + 1):
        epoch_loss = 0
        with progress(total=n_train, desc=f'Epoch {epoch}/{epochs}') as pbar:
            for batch in train_loader:
                images, true_masks = batch['image'], batch['mask']
                images = images.to(device=device, dtype=torch.float32, memory_format=torch.channels_last)
                true_masks = true_masks.to(device=device, dtype=torch.long)

                masks_pred = model(images)
                loss = criterion(masks_pred, true_masks)
                loss += dice_loss(
                    F.softmax(masks_pred, dim=1).float(),
                    F.one_hot(true_masks, model.n_classes).permute(0, 3, 1, 2).float(),
                )

                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clipping)
                optimizer.step()

                pbar.update(images.shape[0])
                global_step += 1
                epoch_loss += loss.item()
                pbar.set_postfix(**{'loss (batch)': loss.item()})

        val_score = evaluate(model, val_loader, device)
        logging.info(f'epoch {epoch}: loss {epoch_loss / len(train_loader):.4f}, validation Dice {val_score:.4f}')
        dir_checkpoint.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), str(dir_checkpoint / f'checkpoint_epoch{epoch}.pth'))


def get_args():
    parser = argparse.ArgumentParser(description='U-Net for discs in noise')
    parser.add_argument('--epochs', '-e', metavar='E', type=int, default=3, help='epochs')
    parser.add_argument('--batch-size', '-b', dest='batch_size', metavar='B', type=int, default=16, help='pictures per step')
    parser.add_argument('--learning-rate', '-l', metavar='LR', type=float, default=1e-3, help='of RMSprop', dest='lr')
    return parser.parse_args()


if __name__ == '__main__':
    args = get_args()
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    torch.manual_seed(0)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model = UNet(n_channels=1, n_classes=2).to(device=device, memory_format=torch.channels_last)
    logging.info(f'{model.n_channels} channel in, {model.n_classes} classes out')
    train_model(model, device, epochs=args.epochs, batch_size=args.batch_size, learning_rate=args.lr)
