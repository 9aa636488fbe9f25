import argparse
import math
import os
from typing import Optional

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

SHAPES = ("disc", "square", "cross", "ring")
MEAN, STD = 0.21, 0.45  # of another ten thousand of them


class ShapesDataset(Dataset):
    """Grey 16x16 pictures of one shape each: anywhere, of any size, under noise."""

    def __init__(self, n: int, generator: torch.Generator):
        self.labels = torch.randint(len(SHAPES), (n,), generator=generator)
        self.images = torch.stack([self._draw(SHAPES[int(k)], generator) for k in self.labels])
        self.images = (self.images - MEAN) / STD

    @staticmethod
    def _draw(shape: str, generator: torch.Generator) -> torch.Tensor:
        cx, cy, r = (torch.rand(3, generator=generator) * torch.tensor([5.0, 5.0, 2.0])
                     + torch.tensor([5.5, 5.5, 3.5])).tolist()
        y, x = torch.meshgrid(torch.arange(16.0) - cy, torch.arange(16.0) - cx, indexing="ij")
        dist = torch.sqrt(x**2 + y**2)
        if shape == "disc":
            mask = dist <= r
        elif shape == "square":
            mask = torch.maximum(x.abs(), y.abs()) <= r
        elif shape == "cross":
            mask = (torch.minimum(x.abs(), y.abs()) <= 1) & (torch.maximum(x.abs(), y.abs()) <= r)
        else:
            mask = (dist <= r) & (dist >= r - 1.5)
        return (mask.float() + 0.2 * torch.randn(16, 16, generator=generator)).unsqueeze(0)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def build_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 4 * 4, len(SHAPES)),
    )


class Trainer:
    def __init__(
        self,
        model: nn.Module,
        train_data: DataLoader,
        val_data: DataLoader,
        optimizer: torch.optim.Optimizer,
        save_every: int,
        snapshot_path: str,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.train_data = train_data
        self.val_data = val_data
        self.optimizer = optimizer
        self.loss_fn = nn.CrossEntropyLoss()
        self.save_every = save_every
        self.snapshot_path = snapshot_path
        self.epochs_run = 0
        if os.path.exists(snapshot_path):
            self._load_snapshot()

    def _load_snapshot(self):
        snapshot = torch.load(self.snapshot_path, map_location=self.device)
        self.model.load_state_dict(snapshot["model"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.epochs_run = snapshot["epochs_run"]
        print(f"snapshot found, going on with epoch {self.epochs_run}")

    def _save_snapshot(self, epoch: int):
        snapshot = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epochs_run": epoch + 1,
        }
        torch.save(snapshot, self.snapshot_path)
        print(f"  wrote {self.snapshot_path}")

    def _run_batch(self, source, targets, train: bool = True):
        """One batch; the weights move only when train is set. Returns the summed loss and the number of hits."""
        with torch.set_grad_enabled(train):
            output = self.model(source)
            loss = self.loss_fn(output, targets)
        if train:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        hits = int((output.argmax(dim=1) == targets).sum())
        return loss.item() * len(source), hits

    def _train_epoch(self, epoch: int) -> float:
        self.model.train()
        total = 0.0
        for source, targets in self.train_data:
            batch_loss, _ = self._run_batch(source.to(self.device), targets.to(self.device))
            total += batch_loss
        return total / len(self.train_data.dataset)

    def _validate(self):
        self.model.eval()
        total, right = 0.0, 0
        for source, targets in self.val_data:
            batch_loss, hits = self._run_batch(source.to(self.device), targets.to(self.device), train=False)
            total += batch_loss
            right += hits
        n = len(self.val_data.dataset)
        return total / n, right / n

    def fit(self, max_epochs: int, min_loss: Optional[float] = None):
        for epoch in range(self.epochs_run, max_epochs):
            train_loss = self._train_epoch(epoch)
            val_loss, val_acc = self._validate()
            print(f"epoch {epoch} | {len(self.train_data)} steps of {self.train_data.batch_size} "
                  f"| loss {train_loss:.4f} | val loss {val_loss:.4f} | val acc {val_acc:.3f}")
            if not math.isfinite(train_loss) or (min_loss is not None and val_loss < min_loss):
                break
            if epoch % self.save_every == 0:
                self._save_snapshot(epoch)


def load_train_objs(seed: int):
    torch.manual_seed(seed)
    dataset = ShapesDataset(1500, torch.Generator().manual_seed(seed))
    train_set, val_set = random_split(dataset, [1200, 300], generator=torch.Generator().manual_seed(seed + 1))
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    return train_set, val_set, model, optimizer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="which shape is it?")
    parser.add_argument("total_epochs", type=int, help="epochs")
    parser.add_argument("save_every", type=int, help="epochs between two snapshots")
    parser.add_argument("--batch_size", default=32, type=int, help="pictures per step")
    args = parser.parse_args()

    train_set, val_set, model, optimizer = load_train_objs(seed=1234)
    train_data = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_data = DataLoader(val_set, batch_size=args.batch_size)
    trainer = Trainer(model, train_data, val_data, optimizer, args.save_every, "snapshot.pt")
    trainer.fit(args.total_epochs)
