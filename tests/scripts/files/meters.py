import argparse
import math
import random
import shutil
import time

import torch
import torch.nn as nn
import torch.optim
import torch.utils.data

parser = argparse.ArgumentParser(description='Gratings Training')
parser.add_argument('-j', '--workers', default=0, type=int, metavar='N', help='processes that load data')
parser.add_argument('--epochs', default=3, type=int, metavar='N', help='epochs in total')
parser.add_argument('--start-epoch', default=0, type=int, metavar='N', help='first epoch')
parser.add_argument('-b', '--batch-size', default=32, type=int, metavar='N', help='images per step')
parser.add_argument('--lr', '--learning-rate', default=0.05, type=float, metavar='LR', dest='lr')
parser.add_argument('--momentum', default=0.9, type=float, metavar='M')
parser.add_argument('--wd', '--weight-decay', default=1e-4, type=float, metavar='W', dest='weight_decay')
parser.add_argument('-p', '--print-freq', default=10, type=int, metavar='N', help='steps between two lines')
parser.add_argument('--resume', default='', type=str, metavar='PATH', help='checkpoint to go on from')
parser.add_argument('--seed', default=3, type=int, help='for weights, data and order')

CLASSES = 6
best_acc1 = 0


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    main_worker(args)


def gratings(n, generator):
    """Striped colour patches: the class is the direction of the stripes."""
    labels = torch.randint(CLASSES, (n,), generator=generator)
    angle = (labels + 0.5 * torch.rand(n, generator=generator)) * math.pi / CLASSES
    freq = 0.6 + 0.5 * torch.rand(n, generator=generator)
    phase = 2 * math.pi * torch.rand(n, generator=generator)
    y, x = torch.meshgrid(torch.arange(16.), torch.arange(16.), indexing='ij')
    along = torch.cos(angle)[:, None, None] * x + torch.sin(angle)[:, None, None] * y
    wave = torch.sin(freq[:, None, None] * along + phase[:, None, None])
    colour = 0.5 + torch.rand(n, 3, generator=generator)
    images = wave[:, None] * colour[:, :, None, None] + 0.3 * torch.randn(n, 3, 16, 16, generator=generator)
    return torch.utils.data.TensorDataset(images, labels)


def conv_bn(inp, oup, stride):
    return nn.Sequential(nn.Conv2d(inp, oup, 3, stride, 1, bias=False), nn.BatchNorm2d(oup), nn.ReLU(inplace=True))


class SmallNet(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, 16, 1), conv_bn(16, 32, 2), conv_bn(32, 32, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.fc(torch.flatten(self.avgpool(self.features(x)), 1))


def main_worker(args):
    global best_acc1
    print("model: smallnet, {} classes".format(CLASSES))
    model = SmallNet()
    criterion = nn.CrossEntropyLoss()
    model.fc = nn.Linear(model.fc.in_features, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)

    if args.resume:
        checkpoint = torch.load(args.resume)
        args.start_epoch, best_acc1 = checkpoint['epoch'], checkpoint['best_acc1']
        model.load_state_dict(checkpoint['state_dict'])
        optimizer.load_state_dict(checkpoint['optimizer'])
        print("going on from {} after epoch {}".format(args.resume, checkpoint['epoch']))

    generator = torch.Generator().manual_seed(args.seed)
    train_dataset, val_dataset = gratings(1600, generator), gratings(400, generator)
    train_loader = torch.utils.data.DataLoader(
        train_dataset, batch_size=args.batch_size, shuffle=True, num_workers=args.workers, pin_memory=False)
    val_loader = torch.utils.data.DataLoader(
        val_dataset, batch_size=args.batch_size, shuffle=False, num_workers=args.workers, pin_memory=False)

    for epoch in range(args.start_epoch, args.epochs):
        adjust_learning_rate(optimizer, epoch, args)
        train(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, model, criterion, args)
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        save_checkpoint({'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best_acc1': best_acc1,
                         'optimizer': optimizer.state_dict()}, is_best)


def train(train_loader, model, criterion, optimizer, epoch, args):
    batch_time = AverageMeter('Time', ':6.3f')
    data_time = AverageMeter('Data', ':6.3f')
    losses = AverageMeter('Loss', ':.4e')
    top1 = AverageMeter('Acc@1', ':6.2f')
    top3 = AverageMeter('Acc@3', ':6.2f')
    progress = ProgressMeter(len(train_loader), [batch_time, data_time, losses, top1, top3],
                             prefix="Epoch: [{}]".format(epoch))

    model.train()  # batch statistics on

    end = time.time()
    for i, (images, target) in enumerate(train_loader):
        data_time.update(time.time() - end)

        output = model(images)
        loss = criterion(output, target)

        # meters
        acc1, acc3 = accuracy(output, target, topk=(1, 3))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))
        top3.update(acc3.item(), images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        batch_time.update(time.time() - end)
        end = time.time()
        if i % args.print_freq == 0:
            progress.display(i)


def validate(val_loader, model, criterion, args):
    losses = AverageMeter('Loss', ':.4e')
    top1 = AverageMeter('Acc@1', ':6.2f')
    top3 = AverageMeter('Acc@3', ':6.2f')

    model.eval()  # running statistics from here on
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1.item(), images.size(0))
            top3.update(acc3.item(), images.size(0))
    print(' * Acc@1 {top1.avg:.3f} Acc@3 {top3.avg:.3f} Loss {loss.avg:.4f}'.format(top1=top1, top3=top3, loss=losses))
    return top1.avg


def save_checkpoint(state, is_best, filename='checkpoint.pth.tar'):
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, 'model_best.pth.tar')


class AverageMeter(object):
    """The last value and the mean of all so far, weighted by n"""
    def __init__(self, name, fmt=':f'):
        self.name, self.fmt = name, fmt
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return ('{name} {val' + self.fmt + '} ({avg' + self.fmt + '})').format(**self.__dict__)


class ProgressMeter(object):
    def __init__(self, num_batches, meters, prefix=""):
        self.meters, self.prefix, self.num_batches = meters, prefix, num_batches

    def display(self, batch):
        print('\t'.join(['{}[{:3d}/{}]'.format(self.prefix, batch, self.num_batches)] + [str(m) for m in self.meters]))


def adjust_learning_rate(optimizer, epoch, args):
    """A tenth of the rate after every second epoch"""
    lr = args.lr * (0.1 ** (epoch // 2))
    for param_group in optimizer.param_groups:
        param_group['lr'] = lr


def accuracy(output, target, topk=(1,)):
    """Percentages of targets among the k highest scores, for every k in topk"""
    with torch.no_grad():
        maxk = max(topk)
        batch_size = target.size(0)
        _, pred = output.topk(maxk, 1, True, True)
        found = (pred == target.unsqueeze(1)).float()
        return [found[:, :k].sum() * 100.0 / batch_size for k in topk]


if __name__ == '__main__':
    main()
