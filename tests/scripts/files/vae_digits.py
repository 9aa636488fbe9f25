from __future__ import print_function
import argparse
import os

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F
from sklearn.datasets import load_digits


parser = argparse.ArgumentParser(description='VAE on 8x8 digits')
parser.add_argument('--batch-size', type=int, default=64, metavar='N',
                    help='pictures per step')
parser.add_argument('--epochs', type=int, default=5, metavar='N',
                    help='passes over the data')
parser.add_argument('--seed', type=int, default=1, metavar='S',
                    help='for all of it')
parser.add_argument('--log-interval', type=int, default=10, metavar='N',
                    help='steps between two lines')
args = parser.parse_args()

torch.manual_seed(args.seed)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# grey values between 0 and 1, taken as probabilities of ink
images, labels = map(torch.tensor, load_digits(return_X_y=True))
order = torch.randperm(len(images))
images, labels = images[order].float().view(-1, 8, 8) / 16., labels[order]
train_data = torch.utils.data.TensorDataset(images[:1500], labels[:1500])
test_data = torch.utils.data.TensorDataset(images[1500:], labels[1500:])
train_loader = torch.utils.data.DataLoader(train_data, batch_size=args.batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(test_data, batch_size=args.batch_size, shuffle=False)


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()

        self.fc1 = nn.Linear(64, 128)
        self.fc21 = nn.Linear(128, 10)
        self.fc22 = nn.Linear(128, 10)
        self.fc3 = nn.Linear(10, 128)
        self.fc4 = nn.Linear(128, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = VAE().to(device)
optimizer = optim.Adam(model.parameters(), lr=2e-3)


# negative ELBO of the whole batch, in nats: a sum over pixels, latents and pictures
def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction='sum')

    # from N(mu, sigma^2) to N(0, 1) in closed form
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

    return BCE + KLD


def train(epoch):
    model.train()
    train_loss = 0
    for batch_idx, (data, _) in enumerate(train_loader):
        data = data.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print('epoch {} [{}/{}]\t{:.3f} per picture'.format(
                epoch, batch_idx, len(train_loader), loss.item() / len(data)))

    print('=> epoch {}: {:.4f} on average'.format(
          epoch, train_loss / len(train_loader.dataset)))


def test(epoch):
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for i, (data, _) in enumerate(test_loader):
            data = data.to(device)
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
            if i == 0:
                n = min(data.size(0), 8)
                comparison = torch.cat([data[:n], recon_batch.view(-1, 8, 8)[:n]])
                torch.save(comparison.cpu(), 'results/reconstruction_' + str(epoch) + '.pt')

    test_loss /= len(test_loader.dataset)
    print('=> held out: {:.4f}'.format(test_loss))


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        os.makedirs('results', exist_ok=True)
        test(epoch)
        with torch.no_grad():
            sample = torch.randn(16, 10).to(device)
            sample = model.decode(sample).cpu()
            torch.save(sample.view(16, 8, 8), 'results/sample_' + str(epoch) + '.pt')
