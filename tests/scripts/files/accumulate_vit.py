#!/usr/bin/env python3
"""Patch transformer on digits with gradient accumulation (the GPU at home has 4 GB...)."""
from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-5s %(message)s", datefmt="%H:%M:%S")
log = logging.getLogger("vit")


@dataclass
class Config:
    seed: int = 11
    epochs: int = 6
    micro_batch: int = 16
    accum_steps: int = 2
    lr: float = 3e-3
    weight_decay: float = 0.01
    dim: int = 48
    heads: int = 4
    depth: int = 2
    dropout: float = 0.1
    out_dir: Path = Path("runs/vit")


class PatchTransformer(nn.Module):
    """8x8 picture -> sixteen 2x2 patches -> encoder -> class token -> 10 logits."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.embed = nn.Linear(4, cfg.dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, cfg.dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 17, cfg.dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            cfg.dim, cfg.heads, 2 * cfg.dim, cfg.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, cfg.depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(cfg.dim)
        self.head = nn.Linear(cfg.dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = images.unfold(1, 2, 2).unfold(2, 2, 2).flatten(1, 2).flatten(2)
        tokens = self.embed(patches)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.positions
        return self.head(self.norm(self.encoder(tokens)[:, 0]))


def get_data(cfg: Config) -> tuple[DataLoader, DataLoader]:
    pixels, labels = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 8, 8) / 16  # now in [0, 1]
    images = (images - 0.3) / 0.37
    data = TensorDataset(images, torch.as_tensor(labels))
    train, val = random_split(data, [0.8, 0.2], generator=torch.Generator().manual_seed(cfg.seed))
    log.info("%d pictures to train on, %d held out", len(train), len(val))
    return DataLoader(train, cfg.micro_batch, shuffle=True), DataLoader(val, 64)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader, criterion: nn.Module) -> tuple[float, float]:
    was_training = model.training
    model.eval()
    loss_sum = 0.0
    correct = 0
    count = 0
    for images, labels in loader:
        logits = model(images)
        loss_sum += criterion(logits, labels).item() * len(labels)
        correct += int((logits.argmax(-1) == labels).sum())
        count += len(labels)
    model.train(was_training)
    return loss_sum / count, correct / count


def train(cfg: Config) -> None:
    torch.manual_seed(cfg.seed)
    train_loader, val_loader = get_data(cfg)
    model = PatchTransformer(cfg)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    updates_per_epoch = -(-len(train_loader) // cfg.accum_steps)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs * updates_per_epoch)
    log.info("%d parameters, %d updates per epoch", sum(p.numel() for p in model.parameters()), updates_per_epoch)

    for epoch in range(cfg.epochs):
        model.train()
        running = 0.0
        optimizer.zero_grad()
        for i, (images, labels) in enumerate(train_loader):
            loss = criterion(model(images), labels)
            (loss / cfg.accum_steps).backward()
            running += loss.item()

            if (i + 1) % cfg.accum_steps == 0 or i + 1 == len(train_loader):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()

            if (i + 1) % 30 == 0:
                log.info("epoch %d  %3d/%d  loss %.4f  lr %.2e", epoch, i + 1, len(train_loader),
                         running / (i + 1), scheduler.get_last_lr()[0])

        val_loss, val_acc = evaluate(model, val_loader, criterion)
        log.info("epoch %d done: val loss %.4f, val accuracy %.3f", epoch, val_loss, val_acc)
        cfg.out_dir.mkdir(parents=True, exist_ok=True)
        torch.save({"cfg": {k: str(v) for k, v in asdict(cfg).items()}, "model": model.state_dict()},
                   cfg.out_dir / "last.pt")


if __name__ == "__main__":
    train(Config())
