'''Small ResNet for the 8x8 digits.'''
import argparse
import os
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description='digits, small ResNet')
parser.add_argument('--lr', default=0.05, type=float, help='learning rate')
parser.add_argument('--epochs', default=3, type=int)
parser.add_argument('--resume', '-r', action='store_true', help='go on from the last checkpoint')
args = parser.parse_args()

torch.manual_seed(0)
device = 'cuda' if torch.cuda.is_available() else 'cpu'
best_acc = 0
start_epoch = 0


class Digits(Dataset):
    """1/5 of the digits are for testing, the rest is shifted by up to a pixel when training"""

    def __init__(self, train=True):
        images, labels = load_digits(return_X_y=True)
        order = np.random.RandomState(42).permutation(len(images))
        cut = len(order) // 5
        rest = images[order[cut:]]
        pick = order[cut:] if train else order[:cut]
        images = (images[pick] - rest.mean()) / rest.std()
        self.images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)
        self.labels = torch.tensor(labels[pick])
        self.blank = float((0 - rest.mean()) / rest.std())
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = self.images[i]
        if self.train:
            x = F.pad(x, (1, 1, 1, 1), value=self.blank)
            dy, dx = torch.randint(0, 3, (2,)).tolist()
            x = x[:, dy:dy + 8, dx:dx + 8]
        return x, self.labels[i]


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super(BasicBlock, self).__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False),
                                          nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super(ResNet, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.linear = nn.Linear(32, num_classes)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer2(self.layer1(out))
        out = F.avg_pool2d(out, 4).flatten(1)
        return self.linear(out)


# Data
print('--- data')
trainset = Digits(train=True)
trainloader = DataLoader(trainset, batch_size=64, shuffle=True)
testset = Digits(train=False)
testloader = DataLoader(testset, batch_size=100, shuffle=False)

# Model
print('--- model')
net = ResNet().to(device)

if args.resume:
    print('--- going on from ./checkpoint')
    checkpoint = torch.load('./checkpoint/ckpt.pth')
    net.load_state_dict(checkpoint['net'])
    best_acc = checkpoint['acc']
    start_epoch = checkpoint['epoch'] + 1

criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
last_time = time.time()


def progress_bar(current, total, msg):
    filled = int(30 * (current + 1) / total)
    sys.stdout.write('\r [' + '=' * filled + '.' * (30 - filled) + '] %.1fs | ' % (time.time() - last_time) + msg)
    if current == total - 1:
        sys.stdout.write('\n')
    sys.stdout.flush()


# Training
def train(epoch):
    print('\nepoch %d' % epoch)
    net.train()
    train_loss = 0
    correct = 0
    total = 0
    for batch_idx, (inputs, targets) in enumerate(trainloader):
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()

        train_loss += loss.item()
        _, predicted = outputs.max(1)
        total += targets.size(0)
        correct += predicted.eq(targets).sum().item()
        progress_bar(batch_idx, len(trainloader), 'loss %.3f | acc %.2f%% (%d of %d)'
                     % (train_loss / (batch_idx + 1), 100. * correct / total, correct, total))


def test(epoch):
    global best_acc
    net.eval()
    test_loss = 0
    hits = 0
    seen = 0
    with torch.no_grad():
        for batch_idx, (inputs, targets) in enumerate(testloader):
            inputs, targets = inputs.to(device), targets.to(device)
            outputs = net(inputs)
            test_loss += criterion(outputs, targets).item()
            _, predicted = outputs.max(1)
            seen += targets.size(0)
            hits += predicted.eq(targets).sum().item()

    # keep the best
    acc = 100. * hits / seen
    print('test loss %.3f | acc %.2f%%' % (test_loss / len(testloader), acc))
    if acc > best_acc:
        print('new best, saved')
        os.makedirs('checkpoint', exist_ok=True)
        torch.save({'net': net.state_dict(), 'acc': acc, 'epoch': epoch}, './checkpoint/ckpt.pth')
        best_acc = acc


for epoch in range(start_epoch, start_epoch + args.epochs):
    train(epoch)
    test(epoch)
    scheduler.step()
