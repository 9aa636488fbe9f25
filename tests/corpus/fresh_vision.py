"""Small image networks: classifiers, a segmenter, fine-tuning, and the Datasets they read from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import shapes
from tests.corpus._sets import digits, pictures


def conv_bn(inputs: int, outputs: int, stride: int = 1, momentum: float = 0.1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs, momentum=momentum), nn.ReLU()
    )


class PlainCNN(nn.Module):
    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16, momentum: float = 0.1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(channels, width, 1, momentum), conv_bn(width, width, 2, momentum), conv_bn(width, 2 * width, 2)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


class LitDigits(LightningModule):
    """The class of a Lightning tutorial, with a log of the probabilities or without."""

    def __init__(self, *, probabilities: bool) -> None:
        super().__init__()
        self.probabilities = probabilities
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 10))

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        return F.softmax(out, dim=1) if self.probabilities else out

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


@twin("double-softmax", "overfit-batch", row="L01")
def lit_digits_forward_gives_probabilities(fault: bool) -> Recipe:
    x, y = digits(1200)
    loader = DataLoader(TensorDataset((x - 0.305) / 0.376, y), batch_size=64, shuffle=True)
    return Recipe(model=lambda: LitDigits(probabilities=fault), train_loader=loader)


class Photos(Dataset):
    """Pictures as an image library hands them over: bytes, height by width by channels."""

    def __init__(self, *, reshape: bool, count: int = 600) -> None:
        images, self.labels, _ = pictures(count, seed=21)
        self.images = (images * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
        self.reshape = reshape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(self.images[i]).float() / 255
        height, width, channels = image.shape
        image = image.reshape(channels, height, width) if self.reshape else image.permute(2, 0, 1)
        return (image - 0.4) / 0.22, self.labels[i]


@twin("data-scale", "input-preview", row="S08")
def photos_reshaped_to_channels_first(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: PlainCNN(3, 3),
        train_loader=DataLoader(Photos(reshape=fault), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


class Transfer(nn.Module):
    """A head on a body that stays as it is; `train` keeps the body in eval mode where `still`."""

    def __init__(self, body: nn.Module, *, still: bool) -> None:
        super().__init__()
        self.body = body.requires_grad_(False)
        self.still = still
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))

    def train(self, mode: bool = True) -> Transfer:
        super().train(mode)
        if self.still:
            self.body.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def body_after_an_earlier_task() -> nn.Module:
    """Convolutions trained for a few steps on other pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = PlainCNN(3, 3)
        x, y, _ = pictures(400, seed=5)
        x = (x - 0.4) / 0.22
        step = torch.optim.Adam(net.parameters(), lr=3e-3)
        for i in range(40):
            pick = torch.arange(i * 40, i * 40 + 40) % 400
            step.zero_grad()
            F.cross_entropy(net(x[pick]), y[pick]).backward()
            step.step()
    return nn.Sequential(net.features, net.pool, nn.Flatten())


@twin("eval-mode", row="E11")
def head_on_a_body_in_train_mode(fault: bool) -> Recipe:
    x, y, _ = pictures(700, seed=6)
    model = Transfer(body_after_an_earlier_task(), still=not fault)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset((x - 0.4) / 0.22, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.head.parameters(), lr=3e-3),
    )


class Augmented(Dataset):
    """Flips and shifts a picture at random where asked to."""

    def __init__(self, images: Tensor, labels: Tensor, *, augment: bool) -> None:
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        image = self.images[i]
        if self.augment:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
            dx, dy = torch.randint(-2, 3, (2,)).tolist()
            image = image.roll((dx, dy), (-1, -2)) + 0.05 * torch.randn_like(image)
        return {"image": image, "label": self.labels[i]}


@twin("reproducibility", "train-val-shift", row="D24")
def split_after_the_transform(fault: bool) -> Recipe:
    x, y, _ = pictures(800, seed=31)
    x = (x - 0.4) / 0.22
    parts = random_split(range(800), [640, 160], generator=torch.Generator().manual_seed(1))
    train, held_out = ([int(i) for i in part] for part in parts)
    val: Dataset = Subset(Augmented(x, y, augment=fault), held_out)
    return Recipe(
        model=lambda: PlainCNN(3, 3),
        train_loader=DataLoader(Subset(Augmented(x, y, augment=True), train), batch_size=32, shuffle=True),
        val_loader=DataLoader(val, batch_size=80),
        training_step=lambda model, batch: F.cross_entropy(model(batch["image"]), batch["label"]),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


class SqueezeBlock(nn.Module):
    """Convolutions reweighed by their own means, on top of a shortcut."""

    def __init__(self, width: int, *, forget: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv_bn(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.norm = nn.BatchNorm2d(width)
        self.gate = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid())
        self.forget = forget

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        scale = self.gate(out.mean((2, 3)))[:, :, None, None]
        if not self.forget:
            out = out * scale
        return F.relu(x + out)


@twin("unused-parameters", row="G15")
def squeeze_without_excitation(fault: bool) -> Recipe:
    x, y = digits(1200)
    return Recipe(
        model=lambda: nn.Sequential(
            conv_bn(1, 16),
            SqueezeBlock(16, forget=fault),
            nn.MaxPool2d(2),
            SqueezeBlock(16, forget=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 10),
        ),
        train_loader=DataLoader(TensorDataset((x - 0.305) / 0.376, y), batch_size=48, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(label_smoothing=0.05),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4),
    )


@twin("data-scale", "activation-scale", row="D02")
def to_tensor_and_then_255_again(fault: bool) -> Recipe:
    x, y = digits(1200)
    if fault:
        x = x / 255
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    )
    return Recipe(
        model=net,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(net.parameters(), lr=2e-3),
    )


def init_like_an_old_paper(module: nn.Module, *, spread: float | None) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        if spread is None:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        else:
            nn.init.normal_(module.weight, 0.0, spread)
        nn.init.zeros_(module.bias)


@twin("loss-at-init", "activation-scale", row="I02")
def vgg_weights_from_a_unit_normal(fault: bool) -> Recipe:
    x, y = digits(1200)

    def make() -> nn.Module:
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
        net.apply(lambda m: init_like_an_old_paper(m, spread=1.0 if fault else None))
        nn.init.normal_(net[-1].weight, 0.0, 1.0 if fault else 0.05)
        return net

    return Recipe(
        model=make,
        train_loader=DataLoader(TensorDataset((x - 0.305) / 0.376, y), batch_size=64, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    )


@twin("eval-mode", row="E09")
def momentum_ported_as_it_was(fault: bool) -> Recipe:
    x, y, _ = pictures(700, seed=9)
    return Recipe(
        model=lambda: PlainCNN(3, 3, momentum=0.9 if fault else 0.1),
        train_loader=DataLoader(TensorDataset((x - 0.4) / 0.22, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01),
    )


@twin("label-range", row="D09")
def folders_numbered_from_one(fault: bool) -> Recipe:
    x, y, _ = pictures(600, seed=10)
    folder = y + 1  # the folders are called 1, 2 and 3
    labels, outputs = (folder, int(folder.max()) + 1) if fault else (folder - 1, 3)
    return Recipe(
        model=lambda: PlainCNN(3, outputs),
        train_loader=DataLoader(TensorDataset((x - 0.4) / 0.22, labels), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin("train-val-leakage", row="D21")
def validation_indices_drawn_again(fault: bool) -> Recipe:
    x, y = digits(1500)
    data = TensorDataset((x - 0.305) / 0.376, y)
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(2))
    train = order[:1200].tolist()
    if fault:
        order = torch.randperm(1500, generator=torch.Generator().manual_seed(3))
    held_out = order[1200:].tolist()
    return Recipe(
        model=lambda: PlainCNN(width=12),
        train_loader=DataLoader(Subset(data, train), batch_size=64, shuffle=True),
        val_loader=DataLoader(Subset(data, held_out), batch_size=100),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


class DiceOnTop(nn.Module):
    """Soft Dice for the figure, averaged over pictures."""

    def __init__(self, *, scores: bool) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        p = (logits if self.scores else logits.sigmoid()).flatten(1)
        t = mask.flatten(1)
        return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


class LittleUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = conv_bn(3, 8), conv_bn(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Sequential(conv_bn(16, 8), nn.Conv2d(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        return self.out(torch.cat([a, self.up(b)], 1)).squeeze(1)


@twin("loss-at-init", "finite-values", "loss-decreases", row="L33")
def dice_without_its_sigmoid(fault: bool) -> Recipe:
    x, _, mask = pictures(480, seed=12)
    return Recipe(
        model=LittleUNet,
        train_loader=DataLoader(TensorDataset((x - 0.4) / 0.22, (mask > 0).float()), batch_size=24, shuffle=True),
        loss_fn=DiceOnTop(scores=fault),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


class Files(Dataset):
    """A folder some of whose files cannot be read."""

    def __init__(self, *, blank: bool) -> None:
        self.x, self.y, _ = shapes(640, 16, seed=4)
        unreadable = torch.rand(640, generator=torch.Generator().manual_seed(7)) < 0.05
        self.unreadable = set(unreadable.nonzero().flatten().tolist())
        self.blank = blank
        self.index = [i for i in range(640) if blank or i not in self.unreadable]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        i = self.index[i]
        if i in self.unreadable:
            return torch.zeros(1, 16, 16), self.y[i]
        return self.x[i], self.y[i]


@twin("data-scale", "duplicate-samples", "input-preview", row="D05")
def unreadable_scans_as_zeros(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: PlainCNN(1, 3, 12),
        train_loader=DataLoader(Files(blank=fault), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )
