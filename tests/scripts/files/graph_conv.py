from __future__ import division, print_function

import argparse
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter

# Semi-supervised node classification: a graph of 4 communities, noisy node features, few labelled nodes.


def load_graph(n_per_class=150, n_class=4, n_feat=24, p_in=0.03, p_out=0.003):
    labels = np.random.permutation(np.repeat(np.arange(n_class), n_per_class))
    n = len(labels)
    same = labels[:, None] == labels[None, :]
    upper = np.triu(np.random.rand(n, n) < np.where(same, p_in, p_out), 1)
    adj = (upper + upper.T).astype(np.float32)
    centres = np.random.randn(n_class, n_feat)
    features = 0.6 * centres[labels] + np.random.randn(n, n_feat)
    features = (features - features.mean(0)) / features.std(0)
    # A_hat = D^-1/2 (A + I) D^-1/2
    adj = adj + np.eye(n, dtype=np.float32)
    d = adj.sum(1) ** -0.5
    adj = d[:, None] * adj * d[None, :]
    idx = np.random.permutation(n)
    return (torch.FloatTensor(adj), torch.FloatTensor(features), torch.LongTensor(labels),
            torch.LongTensor(idx[:200]), torch.LongTensor(idx[200:350]), torch.LongTensor(idx[350:]))


class GraphConvolution(nn.Module):
    """A_hat X W + b"""

    def __init__(self, in_features, out_features):
        super(GraphConvolution, self).__init__()
        self.weight = Parameter(torch.FloatTensor(in_features, out_features))
        self.bias = Parameter(torch.zeros(out_features))
        bound = math.sqrt(6. / (in_features + out_features))
        self.weight.data.uniform_(-bound, bound)

    def forward(self, x, adj):
        return torch.mm(adj, torch.mm(x, self.weight)) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super(GCN, self).__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


def accuracy(output, labels):
    preds = output.max(1)[1]
    return preds.eq(labels).sum().item() / len(labels)


parser = argparse.ArgumentParser()
parser.add_argument('--seed', type=int, default=42)
parser.add_argument('--epochs', type=int, default=60)
parser.add_argument('--lr', type=float, default=0.02)
parser.add_argument('--weight_decay', type=float, default=5e-4)
parser.add_argument('--hidden', type=int, default=16)
parser.add_argument('--dropout', type=float, default=0.5)
args = parser.parse_args()

np.random.seed(args.seed)
torch.manual_seed(args.seed)

adj, features, labels, idx_train, idx_val, idx_test = load_graph()
model = GCN(features.shape[1], args.hidden, int(labels.max()) + 1, args.dropout)
optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)


def train(epoch):
    t = time.time()
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    acc_train = accuracy(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()

    # once more without dropout for the validation nodes
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    loss_val = F.nll_loss(output[idx_val], labels[idx_val])
    acc_val = accuracy(output[idx_val], labels[idx_val])
    if epoch % 10 == 0:
        print('Epoch: {:04d}'.format(epoch + 1), 'loss_train: {:.4f}'.format(loss_train.item()),
              'acc_train: {:.4f}'.format(acc_train), 'loss_val: {:.4f}'.format(loss_val.item()),
              'acc_val: {:.4f}'.format(acc_val), 'time: {:.4f}s'.format(time.time() - t))


def test():
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    print('Test set results:', 'loss= {:.4f}'.format(F.nll_loss(output[idx_test], labels[idx_test]).item()),
          'accuracy= {:.4f}'.format(accuracy(output[idx_test], labels[idx_test])))


t_total = time.time()
for epoch in range(args.epochs):
    train(epoch)
print('Optimization Finished! {:.2f}s'.format(time.time() - t_total))
test()
