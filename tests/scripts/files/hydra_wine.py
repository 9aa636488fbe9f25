import logging
from dataclasses import dataclass, field

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

log = logging.getLogger(__name__)
LOADERS = {"wine": load_wine, "breast_cancer": load_breast_cancer}


@dataclass
class DataConfig:
    name: str = "breast_cancer"
    batch_size: int = 32
    val_share: float = 0.2


@dataclass
class ModelConfig:
    width: int = 64
    depth: int = 2
    dropout: float = 0.1


@dataclass
class OptimConfig:
    lr: float = 1e-3
    weight_decay: float = 1e-4


@dataclass
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    epochs: int = 5
    seed: int = 2023


ConfigStore.instance().store(name="config", node=Config)


def build_data(cfg: DataConfig, seed: int):
    x, y = LOADERS[cfg.name](return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)
    y = torch.tensor(y)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=cfg.val_share, random_state=seed, stratify=y)
    mean, std = x_train.mean(dim=0), x_train.std(dim=0)
    train_set = TensorDataset((x_train - mean) / std, y_train)
    val_set = TensorDataset((x_val - mean) / std, y_val)
    train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=cfg.batch_size)
    return train_loader, val_loader, x.shape[1], int(y.max()) + 1


def build_model(cfg: ModelConfig, n_in: int, n_out: int) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(cfg.depth):
        layers += [nn.Linear(n_in, cfg.width), nn.GELU(), nn.Dropout(cfg.dropout)]
        n_in = cfg.width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


@torch.no_grad()
def validate(model, loader, criterion):
    model.eval()
    loss = correct = n = 0
    for x, y in loader:
        logits = model(x)
        loss += criterion(logits, y).item() * len(y)
        correct += (logits.argmax(-1) == y).sum().item()
        n += len(y)
    return loss / n, correct / n


@hydra.main(config_path=None, config_name="config", version_base=None)
def main(cfg: Config) -> float:
    log.info("\n%s", OmegaConf.to_yaml(cfg))
    torch.manual_seed(cfg.seed)
    train_loader, val_loader, n_in, n_out = build_data(cfg.data, cfg.seed)
    model = build_model(cfg.model, n_in, n_out)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.optim.lr, weight_decay=cfg.optim.weight_decay)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)

    best = float("inf")
    for epoch in range(cfg.epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        scheduler.step()
        val_loss, val_acc = validate(model, val_loader, criterion)
        log.info("epoch %d train (last batch) %.4f val %.4f acc %.3f", epoch, loss.item(), val_loss, val_acc)
        if val_loss < best:
            best = val_loss
            torch.save(model.state_dict(), "best.pt")
    return best


if __name__ == "__main__":
    main()
