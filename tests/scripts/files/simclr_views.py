import argparse
import logging

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')

parser = argparse.ArgumentParser(description='Contrastive pre-training on small digits')
parser.add_argument('--epochs', default=4, type=int)
parser.add_argument('-b', '--batch-size', default=64, type=int)
parser.add_argument('--lr', default=0.002, type=float)
parser.add_argument('--wd', '--weight-decay', default=1e-4, type=float, dest='weight_decay')
parser.add_argument('--seed', default=0, type=int)
parser.add_argument('--out_dim', default=32, type=int)
parser.add_argument('--temperature', default=0.2, type=float)
parser.add_argument('--n-views', default=2, type=int)


class ContrastiveViewGenerator(object):
    """Take n random views of one image: shifted, contrast changed, noisy."""

    def __init__(self, n_views=2):
        self.n_views = n_views

    def view(self, x):
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        x = torch.roll(x, (dy, dx), dims=(1, 2))
        x = x * (0.7 + 0.6 * torch.rand(1))
        return x + 0.2 * torch.randn_like(x)

    def __call__(self, x):
        return [self.view(x) for _ in range(self.n_views)]


class Digits(Dataset):
    def __init__(self, transform):
        images, self.targets = load_digits(return_X_y=True)
        images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)
        self.images = (images - images.mean()) / images.std()
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i]), int(self.targets[i])


class Encoder(nn.Module):
    def __init__(self, out_dim):
        super(Encoder, self).__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.Flatten())
        self.projector = nn.Sequential(nn.Linear(48 * 16, 64), nn.ReLU(), nn.Linear(64, out_dim))

    def forward(self, x):
        return self.projector(self.backbone(x))


class SimCLR(object):

    def __init__(self, *args, **kwargs):
        self.args = kwargs['args']
        self.model = kwargs['model']
        self.optimizer = kwargs['optimizer']
        self.scheduler = kwargs['scheduler']
        self.criterion = nn.CrossEntropyLoss()

    def info_nce_loss(self, features):
        n = features.shape[0] // self.args.n_views
        labels = torch.cat([torch.arange(n) for i in range(self.args.n_views)], dim=0)
        labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
        features = F.normalize(features, dim=1)
        similarity_matrix = torch.matmul(features, features.T)

        # discard the main diagonal from both
        mask = torch.eye(labels.shape[0], dtype=torch.bool)
        labels = labels[~mask].view(labels.shape[0], -1)
        similarity_matrix = similarity_matrix[~mask].view(similarity_matrix.shape[0], -1)
        positives = similarity_matrix[labels.bool()].view(labels.shape[0], -1)
        negatives = similarity_matrix[~labels.bool()].view(similarity_matrix.shape[0], -1)
        logits = torch.cat([positives, negatives], dim=1)
        labels = torch.zeros(logits.shape[0], dtype=torch.long)
        return logits / self.args.temperature, labels

    def train(self, train_loader):
        logging.info('Start SimCLR training for %d epochs.', self.args.epochs)
        for epoch_counter in range(self.args.epochs):
            total, top1, count = 0.0, 0, 0
            for images, _ in train_loader:
                images = torch.cat(images, dim=0)
                features = self.model(images)
                logits, labels = self.info_nce_loss(features)
                loss = self.criterion(logits, labels)

                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

                total += loss.item() * len(labels)
                top1 += (logits.argmax(1) == labels).sum().item()
                count += len(labels)
            self.scheduler.step()
            logging.info('Epoch: %d\tLoss: %.4f\tTop1 accuracy: %.3f', epoch_counter, total / count, top1 / count)
        torch.save({'epoch': self.args.epochs, 'state_dict': self.model.state_dict()}, 'checkpoint.pth.tar')


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train_dataset = Digits(ContrastiveViewGenerator(args.n_views))
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    model = Encoder(args.out_dim)
    optimizer = torch.optim.Adam(model.parameters(), args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    simclr = SimCLR(model=model, optimizer=optimizer, scheduler=scheduler, args=args)
    simclr.train(train_loader)


if __name__ == "__main__":
    main()
