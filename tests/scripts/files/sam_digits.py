# Sharpness-aware minimisation on the 8x8 digits. SAM wraps plain SGD with momentum.
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        defaults = dict(rho=rho, **kwargs)
        super().__init__(params, defaults)
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        """Climb to the worst point within rho."""
        grad_norm = torch.norm(torch.stack([p.grad.norm(p=2) for g in self.param_groups for p in g["params"]]), p=2)
        for group in self.param_groups:
            scale = group["rho"] / (grad_norm + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * scale)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        """Back to where we were, and down with the gradient found up there."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure=None):
        raise NotImplementedError("call first_step and second_step")


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 16, 3, padding=1)
        self.b1 = nn.BatchNorm2d(16)
        self.c2 = nn.Conv2d(16, 32, 3, padding=1)
        self.b2 = nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(32 * 4, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.b1(self.c1(x))), 2)
        x = F.max_pool2d(F.relu(self.b2(self.c2(x))), 2)
        return self.fc(self.drop(x.flatten(1)))


class Log:
    """Running means of loss and accuracy, printed in one line per epoch."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.loss, self.right, self.seen = 0.0, 0, 0

    def __call__(self, loss, correct):
        self.loss += loss.sum().item()
        self.right += correct.sum().item()
        self.seen += len(correct)

    def __str__(self):
        return f"{self.loss / self.seen:.4f}  {100 * self.right / self.seen:6.2f} %"


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", default=4, type=int)
    ap.add_argument("--batch_size", default=32, type=int)
    ap.add_argument("--learning_rate", default=0.05, type=float)
    ap.add_argument("--rho", default=0.05, type=float)
    args = ap.parse_args()
    torch.manual_seed(42)

    X, Y = load_digits(return_X_y=True)
    X = torch.tensor(X, dtype=torch.float32).view(-1, 1, 8, 8)
    Y = torch.tensor(Y)
    x_tr, x_te, y_tr, y_te = train_test_split(X, Y, test_size=0.25, random_state=42, stratify=Y)
    mu, sd = x_tr.mean(), x_tr.std()
    train_set = TensorDataset((x_tr - mu) / sd, y_tr)
    test_set = TensorDataset((x_te - mu) / sd, y_te)
    train_dl = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    test_dl = DataLoader(test_set, 128)

    model = ConvNet()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=args.rho, lr=args.learning_rate, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.base_optimizer, T_max=args.epochs)
    log = Log()

    for epoch in range(args.epochs):
        model.train()
        log.reset()
        for inputs, targets in train_dl:
            # first forward-backward step
            predictions = model(inputs)
            loss = F.cross_entropy(predictions, targets, reduction="none")
            loss.mean().backward()
            optimizer.first_step(zero_grad=True)

            # second forward-backward step
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.second_step(zero_grad=True)
            log(loss.detach(), predictions.argmax(1) == targets)
        line = str(log)
        scheduler.step()

        model.eval()
        log.reset()
        with torch.no_grad():
            for inputs, targets in test_dl:
                out = model(inputs)
                log(F.cross_entropy(out, targets, reduction="none"), out.argmax(1) == targets)
        print(f"| {epoch + 1:2d} | train {line} | test {log} |")
