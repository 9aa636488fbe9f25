"""Sound set-ups on pictures: nets written by hand, transfer, augmentation, and what looks like a fault and is none."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from nncheck import Recipe
from tests.corpus import sound
from tests.corpus._material import pictures, seeded, shapes


def taught(model: nn.Module, *, lr: float = 2e-3, batch_size: int = 24, **more: object) -> Recipe:
    parts = {
        "train_loader": DataLoader(TensorDataset(*pictures()), batch_size=batch_size, shuffle=True),
        "loss_fn": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=lr),
    }
    return Recipe(model=model, **{**parts, **more})


class BasicBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        nn.init.zeros_(self.bn2.weight)  # every block starts as the identity
        self.short = nn.Sequential()
        if stride != 1 or before != after:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.short(x))


@sound("last gains of zero, a schedule by step")
def resnet_with_zero_gains() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, epochs=12, steps_per_epoch=20)
    return taught(model, optimizer=optimizer, scheduler=schedule, scheduler_interval="step", epochs=12)


@sound("many groups of one channel")
def mobile_net_blocks() -> Recipe:
    class Inverted(nn.Module):
        def __init__(self, width: int, stride: int = 1) -> None:
            super().__init__()
            self.keeps = stride == 1
            self.net = nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU6(),
                nn.Conv2d(4 * width, 4 * width, 3, stride, 1, groups=4 * width, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU6(),
                nn.Conv2d(4 * width, width, 1, bias=False), nn.BatchNorm2d(width),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return x + self.net(x) if self.keeps else self.net(x)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(), Inverted(16), Inverted(16, 2), Inverted(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 4),
    )  # fmt: skip
    return taught(model, lr=3e-3)


@sound("a gain of one millionth on every branch, and branches left out by chance")
def conv_next_with_stochastic_depth() -> Recipe:
    class Block(nn.Module):
        def __init__(self, width: int, drop: float) -> None:
            super().__init__()
            self.spread = nn.Conv2d(width, width, 5, padding=2, groups=width)
            self.norm = nn.LayerNorm(width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.gain = nn.Parameter(1e-6 * torch.ones(width))
            self.drop = drop

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.spread(x).permute(0, 2, 3, 1))
            h = (self.gain * self.down(F.gelu(self.up(h)))).permute(0, 3, 1, 2)
            if self.training and self.drop:
                kept = (torch.rand(len(x), 1, 1, 1) >= self.drop).float()
                h = h * kept / (1 - self.drop)
            return x + h

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 24, 4, stride=4), nn.GroupNorm(1, 24), Block(24, 0.1), Block(24, 0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.LayerNorm(24), nn.Linear(24, 4),
    )  # fmt: skip
    return taught(model, lr=4e-3)


@sound()
def dense_net() -> Recipe:
    class Layer(nn.Module):
        def __init__(self, before: int) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(before), nn.Conv2d(before, 8, 3, padding=1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), Layer(16), Layer(24), Layer(32), nn.BatchNorm2d(40), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(160, 4),
    )  # fmt: skip
    return taught(model)


@sound("five of six pixels are background, and the loss says so")
def unet_with_dice() -> Recipe:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()

            def pair(before: int, after: int) -> nn.Sequential:
                return nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
                )

            self.down1, self.down2, self.low = pair(1, 12), pair(12, 24), pair(24, 24)
            self.up2, self.up1 = pair(48, 16), pair(28, 12)
            self.out = nn.Conv2d(12, 1, 1)
            nn.init.constant_(self.out.bias, -1.7)  # the share of the foreground

        def forward(self, x: Tensor) -> Tensor:
            a = self.down1(x)
            b = self.down2(F.max_pool2d(a, 2))
            c = self.low(F.max_pool2d(b, 2))
            d = self.up2(torch.cat([F.interpolate(c, scale_factor=2.0), b], 1))
            return self.out(self.up1(torch.cat([F.interpolate(d, scale_factor=2.0), a], 1)))

    def bce_and_dice(logits: Tensor, masks: Tensor) -> Tensor:
        p = torch.sigmoid(logits)
        overlap = (p * masks).sum((1, 2, 3))
        dice = 1 - (2 * overlap + 1) / (p.sum((1, 2, 3)) + masks.sum((1, 2, 3)) + 1)
        return F.binary_cross_entropy_with_logits(logits, masks) + dice.mean()

    torch.manual_seed(0)
    x, _, boxes = shapes(320)
    ticks = (torch.arange(16) + 0.5) / 16
    inside = [(ticks - boxes[:, c : c + 1]).abs() <= boxes[:, 2:3] / 2 for c in (0, 1)]
    masks = (inside[1][:, :, None] & inside[0][:, None, :]).float()[:, None]
    model = UNet()
    loader = DataLoader(TensorDataset(x, masks), batch_size=16, shuffle=True)
    return taught(model, train_loader=loader, loss_fn=bce_and_dice, lr=3e-3)


@sound("branches that start at zero have no gradient in their first layers")
def rezero_net() -> Recipe:
    class ReZero(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            self.alpha = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.alpha * self.net(x)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3, 2, 1),
        nn.ReLU(),
        ReZero(20),
        ReZero(20),
        ReZero(20),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(80, 4),
    )
    return taught(model, lr=3e-3)


@sound("a last layer of every branch, and the head, at zero")
def fixup_net() -> Recipe:
    class Fixup(nn.Module):
        def __init__(self, width: int, blocks: int) -> None:
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
            nn.init.normal_(self.conv1.weight, std=(2 / (9 * width)) ** 0.5 * blocks**-0.5)
            nn.init.zeros_(self.conv2.weight)
            self.bias = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(4)])
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.conv1(x + self.bias[0]) + self.bias[1])
            return F.relu(x + self.scale * self.conv2(h + self.bias[2]) + self.bias[3])

    torch.manual_seed(0)
    head = nn.Linear(64, 4)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), Fixup(16, 2), Fixup(16, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), head
    )
    return taught(model, lr=3e-3)


@sound("bytes in the batch")
def bytes_scaled_in_forward() -> Recipe:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 16, 3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(16, 24, 3, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(384, 4),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.net((x.float() / 255 - 0.5) / 0.2)

    torch.manual_seed(0)
    x, y = pictures()
    as_bytes = ((x / 6 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    loader = DataLoader(TensorDataset(as_bytes, y), batch_size=24, shuffle=True)
    return taught(Net(), train_loader=loader)


@sound("inputs of 0 to 255")
def batch_norm_on_the_raw_pixels() -> Recipe:
    torch.manual_seed(0)
    x, y = pictures()
    raw = (x / 6 + 0.5).clamp(0, 1) * 255
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(384, 4),
    )  # fmt: skip
    return taught(model, train_loader=DataLoader(TensorDataset(raw, y), batch_size=24, shuffle=True))


class Shifted(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        dx, dy = torch.randint(-3, 4, (2,)).tolist()
        return self.x[i].roll((dx, dy), (1, 2)) * (0.7 + 0.6 * torch.rand(())), self.y[i]


@sound("training pictures differ from validation ones by their augmentation")
def augmented_in_training_only() -> Recipe:
    torch.manual_seed(0)
    x, y = pictures(640)
    order = torch.randperm(640, generator=seeded(1)).tolist()
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 3, padding=1),
        nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 4),
    )  # fmt: skip
    return taught(
        model,
        train_loader=DataLoader(Subset(Shifted(x, y), order[:480]), batch_size=32, shuffle=True, drop_last=True),
        val_loader=DataLoader(Subset(TensorDataset(x, y), order[480:]), batch_size=40),
    )


@sound("targets that are no classes, and a floor above zero")
def mixed_up_with_label_smoothing() -> Recipe:
    def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        x, y = torch.stack([i[0] for i in items]), torch.stack([i[1] for i in items])
        q = F.one_hot(y, 4).float()
        share = float(torch.distributions.Beta(0.3, 0.3).sample())
        other = torch.randperm(len(x))
        return share * x + (1 - share) * x[other], share * q + (1 - share) * q[other]

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 4),
    )  # fmt: skip
    loader = DataLoader(TensorDataset(*pictures()), batch_size=32, shuffle=True, collate_fn=collate)
    return taught(model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(label_smoothing=0.1))


@sound("every prediction needs the other pictures")
def views_told_apart_by_contrast() -> Recipe:
    """SimCLR: two augmented copies attract, all others of the batch repel."""

    class TwoViews(Dataset[tuple[Tensor, Tensor]]):
        def __init__(self) -> None:
            self.x, _ = pictures(480, classes=40)

        def __len__(self) -> int:
            return len(self.x)

        def view(self, x: Tensor) -> Tensor:
            dx, dy = torch.randint(-2, 3, (2,)).tolist()
            return x.roll((dx, dy), (1, 2)) * (0.7 + 0.6 * torch.rand(())) + 0.2 * torch.randn(x.shape)

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            return self.view(self.x[i]), self.view(self.x[i])

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        z = F.normalize(model(torch.cat(batch)), dim=1)
        n = len(z) // 2
        scores = (z @ z.T / 0.2).fill_diagonal_(float("-inf"))
        return F.cross_entropy(scores, (torch.arange(2 * n) + n) % (2 * n))

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 24),
    )  # fmt: skip
    loader = DataLoader(TwoViews(), batch_size=24, shuffle=True, drop_last=True)
    return taught(model, train_loader=loader, loss_fn=None, training_step=training_step)


@sound("gradients recomputed in the backward pass")
def blocks_under_checkpointing() -> Recipe:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 24, 4, stride=4)
            self.blocks = nn.ModuleList(
                [
                    nn.Sequential(nn.GroupNorm(4, 24), nn.Conv2d(24, 24, 3, padding=1), nn.GELU(), nn.Conv2d(24, 24, 1))
                    for _ in range(3)
                ]
            )
            self.head = nn.Linear(24, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = x + checkpoint(block, x, use_reentrant=False)
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    return taught(Net())


@sound("a second copy of the model that no optimizer holds")
def weights_averaged_along_the_way() -> Recipe:
    class Averaged(nn.Module):
        """The net that learns and its moving average, which answers in evaluation."""

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 16, 3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(16, 24, 3, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(384, 4),
            )
            self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.98)).requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    torch.manual_seed(0)
    model = Averaged()
    optimizer = torch.optim.Adam(model.net.parameters(), lr=2e-3)

    def train_step(model: Averaged, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        model.average.update_parameters(model.net)
        return loss

    return taught(model, optimizer=optimizer, loss_fn=None, train_step=train_step)


@sound("a frozen backbone in evaluation mode")
def backbone_frozen_then_two_rates() -> Recipe:
    """The first stage stays as it was trained; the second learns slowly, the new head fast."""
    torch.manual_seed(0)
    stage1 = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    stage2 = nn.Sequential(
        nn.Conv2d(16, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    old = nn.Linear(96, 6)
    other = pictures(480, classes=6, seed=8)
    first = torch.optim.Adam([*stage1.parameters(), *stage2.parameters(), *old.parameters()], lr=3e-3)
    for start in range(0, 480, 32):  # what it was trained on
        first.zero_grad()
        F.cross_entropy(old(stage2(stage1(other[0][start : start + 32]))), other[1][start : start + 32]).backward()
        first.step()
    first.zero_grad()

    class FineTuned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage1, self.stage2, self.head = stage1.requires_grad_(False), stage2, nn.Linear(96, 4)

        def train(self, mode: bool = True) -> FineTuned:
            super().train(mode)
            self.stage1.eval()
            return self

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stage2(self.stage1(x)))

    model = FineTuned()
    optimizer = torch.optim.AdamW(
        [{"params": model.stage2.parameters(), "lr": 3e-4}, {"params": model.head.parameters()}], lr=5e-3
    )
    return taught(model, optimizer=optimizer)


@sound("a teacher without gradients")
def taught_by_a_larger_net() -> Recipe:
    torch.manual_seed(0)
    x, y = pictures()
    teacher = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(192, 4),
    )  # fmt: skip
    first = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for start in range(0, 480, 32):
        first.zero_grad()
        F.cross_entropy(teacher(x[start : start + 32]), y[start : start + 32]).backward()
        first.step()
    teacher.eval().requires_grad_(False)
    student = nn.Sequential(
        nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)
    )

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        images, labels = batch
        with torch.no_grad():
            soft = (teacher(images) / 3).softmax(1)
        logits = model(images)
        matched = F.kl_div((logits / 3).log_softmax(1), soft, reduction="batchmean") * 9
        return 0.5 * matched + 0.5 * F.cross_entropy(logits, labels)

    return taught(student, loss_fn=None, training_step=training_step)


@sound("layers cloned with the same weights")
def encoder_layers_cloned_from_one() -> Recipe:
    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Conv2d(3, 32, 4, stride=4)
            self.first = nn.Parameter(torch.zeros(1, 1, 32))
            self.place = nn.Parameter(0.02 * torch.randn(1, 17, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
            self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(2)])
            self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.cut(x).flatten(2).transpose(1, 2)
            h = torch.cat([self.first.expand(len(h), -1, -1), h], 1) + self.place
            for layer in self.layers:
                h = layer(h)
            return self.head(self.norm(h[:, 0]))

    torch.manual_seed(0)
    return taught(ViT())
