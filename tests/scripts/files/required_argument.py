import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Subset, TensorDataset


class Net(nn.Module):
    def __init__(self, hidden):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, 1)
        self.dropout1 = nn.Dropout(0.1)
        self.dropout2 = nn.Dropout(0.2)
        self.fc1 = nn.Linear(32 * 3 * 3, hidden)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout2(x)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


def train(args, model, device, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print('epoch {} batch {}/{} ({:.0f}%)\tloss {:.5f}'.format(
                epoch, batch_idx, len(train_loader), 100. * batch_idx / len(train_loader), loss.item()))
            if args.dry_run:
                break


def test(model, device, test_loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction='sum').item()
            pred = output.argmax(dim=1, keepdim=True)  # (N, 1)
            correct += pred.eq(target.view_as(pred)).sum().item()

    test_loss /= len(test_loader.dataset)

    print('\n  test: loss {:.4f}, {} of {} right ({:.0f}%)\n'.format(
        test_loss, correct, len(test_loader.dataset),
        100. * correct / len(test_loader.dataset)))


def digits():
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    train_idx, test_idx = order[360:], order[:360]
    images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)
    mean, std = images[train_idx].mean(), images[train_idx].std()
    dataset = TensorDataset((images - mean) / std, torch.tensor(labels))
    return Subset(dataset, train_idx.tolist()), Subset(dataset, test_idx.tolist())


def main():
    parser = argparse.ArgumentParser(description='CNN on the small digits')
    parser.add_argument('--hidden', type=int, required=True, metavar='H',
                        help='width of the hidden layer')
    parser.add_argument('--batch-size', type=int, default=32, metavar='N',
                        help='pictures per step')
    parser.add_argument('--test-batch-size', type=int, default=200, metavar='N',
                        help='pictures at once when testing')
    parser.add_argument('--epochs', type=int, default=3, metavar='N',
                        help='passes over the training pictures')
    parser.add_argument('--lr', type=float, default=1.0, metavar='LR',
                        help='of Adadelta')
    parser.add_argument('--gamma', type=float, default=0.7, metavar='M',
                        help='the rate is multiplied by this after each epoch')
    parser.add_argument('--no-cuda', action='store_true', help='stay on the CPU')
    parser.add_argument('--dry-run', action='store_true', help='one batch per epoch, to see whether it runs')
    parser.add_argument('--seed', type=int, default=1, metavar='S', help='for weights, dropout and order')
    parser.add_argument('--log-interval', type=int, default=10, metavar='N',
                        help='batches between two lines of output')
    parser.add_argument('--save-model', action='store_true', help='write the weights in the end')
    args = parser.parse_args()
    use_cuda = not args.no_cuda and torch.cuda.is_available()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if use_cuda else "cpu")

    dataset1, dataset2 = digits()
    train_loader = DataLoader(dataset1, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(dataset2, batch_size=args.test_batch_size)

    model = Net(args.hidden).to(device)
    optimizer = optim.Adadelta(model.parameters(), lr=args.lr)

    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        test(model, device, test_loader)
        scheduler.step()

    if args.save_model:
        torch.save(model.state_dict(), "digits_cnn.pt")


if __name__ == '__main__':
    main()
