# Breast cancer, a small MLP, no DataLoader: the batches come from a function.
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

N_EPOCHS = 8
BATCH = 32
LR = 0.002


def batches(x, y, bs, rng=None):
    """Yield (x, y) slices of bs rows; in random order if rng is given."""
    order = np.arange(len(x)) if rng is None else rng.permutation(len(x))
    for start in range(0, len(x), bs):
        rows = torch.from_numpy(order[start:start + bs])
        yield x[rows], y[rows]


def get_data(rng):
    raw = load_breast_cancer()
    idx = rng.permutation(len(raw.target))
    X = torch.tensor(raw.data[idx], dtype=torch.float32)
    y = torch.tensor(raw.target[idx], dtype=torch.float32)
    n = int(0.8 * len(X))
    mean, std = X[:n].mean(0), X[:n].std(0)
    X = (X - mean) / std
    return X[:n], y[:n], X[n:], y[n:]


class Net(torch.nn.Module):
    def __init__(self, d):
        super().__init__()
        self.l1 = torch.nn.Linear(d, 32)
        self.drop = torch.nn.Dropout(0.2)
        self.l2 = torch.nn.Linear(32, 16)
        self.out = torch.nn.Linear(16, 1)

    def forward(self, x):
        x = self.drop(torch.relu(self.l1(x)))
        x = torch.relu(self.l2(x))
        return self.out(x).squeeze(1)


def evaluate(net, x, y, loss_fn):
    net.eval()
    loss_sum, hits = 0.0, 0
    with torch.no_grad():
        for xb, yb in batches(x, y, 64):
            out = net(xb)
            loss_sum += loss_fn(out, yb).item() * len(xb)
            hits += ((out > 0).float() == yb).sum().item()
    return loss_sum / len(x), hits / len(x)


def fit():
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    x_train, y_train, x_valid, y_valid = get_data(rng)
    print('train', tuple(x_train.shape), 'valid', tuple(x_valid.shape))

    net = Net(x_train.shape[1])
    opt = torch.optim.Adam(net.parameters(), lr=LR)
    loss_fn = torch.nn.BCEWithLogitsLoss()

    history = []
    for epoch in range(1, N_EPOCHS + 1):
        net.train()
        seen, total = 0, 0.0
        for xb, yb in batches(x_train, y_train, BATCH, rng):
            opt.zero_grad()
            loss = loss_fn(net(xb), yb)
            loss.backward()
            opt.step()
            total += loss.item() * len(xb)
            seen += len(xb)
        v_loss, v_acc = evaluate(net, x_valid, y_valid, loss_fn)
        history.append((total / seen, v_loss, v_acc))
        print('epoch {:2d}: train {:.4f}  valid {:.4f}  acc {:.3f}'.format(epoch, *history[-1]))

    best = min(range(len(history)), key=lambda i: history[i][1])
    print('best epoch', best + 1)


if __name__ == '__main__':
    fit()
