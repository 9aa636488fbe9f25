"""Image models: norms, skips, masks, zero-initialised heads."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from nncheck import Recipe
from tests.healthy.data import images, loader


def _recipe(model: nn.Module, *, classes: int = 4, batch_size: int = 32, lr: float = 1e-3, size: int = 16) -> Recipe:
    data = loader(*images(classes=classes, size=size), batch_size=batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return Recipe(model=model, train_loader=data, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


class Residual(nn.Module):
    def __init__(self, width: int, out: int, stride: int = 1, *, zero: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        plain = stride == 1 and width == out
        self.shortcut = (
            nn.Identity() if plain else nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )
        self.drop = drop
        if zero:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.drop and torch.rand(()) < self.drop:
            return F.relu(self.shortcut(x))
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def _resnet(*, zero: bool = False, drop: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
        Residual(12, 12, zero=zero, drop=drop), Residual(12, 24, 2, zero=zero, drop=drop),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip


def resnet() -> Recipe:
    return _recipe(_resnet())


def resnet_zero_initialised_branches() -> Recipe:
    """Each residual branch starts as the identity: its convolutions have no gradient at step 0."""
    return _recipe(_resnet(zero=True))


def stochastic_depth() -> Recipe:
    """A block may be left out by chance in any one pass."""
    return _recipe(_resnet(drop=0.5))


def batch_norm_on_a_tiny_batch() -> Recipe:
    return _recipe(_resnet(), batch_size=4)


def group_norm_depthwise() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.SiLU(),
        nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.GroupNorm(4, 16), nn.Conv2d(16, 32, 1), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    return _recipe(model)


def weight_norm_and_spectral_norm() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 16, 3, 2, 1)), nn.LeakyReLU(0.2),
        parametrizations.spectral_norm(nn.Conv2d(16, 32, 3, 2, 1)), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(32 * 16, 4),
    )  # fmt: skip
    return _recipe(model)


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


def squeeze_and_excite() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), SqueezeExcite(16),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), SqueezeExcite(32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    return _recipe(model)


class TinyViT(nn.Module):
    """Patches, a class token, pre-norm encoder; the head starts at zero, as in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.position = nn.Parameter(torch.randn(1, 17, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 4)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.encoder(x))[:, 0])


def vit_with_a_zero_head() -> Recipe:
    torch.manual_seed(0)
    return _recipe(TinyViT())


class UNet(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(24, 12, 2, 2)
        self.end = nn.Sequential(nn.Conv2d(24, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        early = self.down(x)
        return self.end(torch.cat([early, self.up(self.middle(early))], 1))


def segmentation_with_ignored_borders() -> Recipe:
    """Pixel labels with 255 for "do not care"."""
    x, _ = images(samples=256, channels=1)
    smooth = F.avg_pool2d(x, 5, 1, 2)[:, 0]
    y = (smooth > -0.2).long() + (smooth > 0.2).long()
    y[:, 0], y[:, -1], y[:, :, 0], y[:, :, -1] = 255, 255, 255, 255
    torch.manual_seed(0)
    model = UNet()
    loss_fn = nn.CrossEntropyLoss(ignore_index=255)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Recipe(model=model, train_loader=loader(x, y, batch_size=16), loss_fn=loss_fn, optimizer=optimizer)


def auxiliary_head() -> Recipe:
    """The model returns two outputs; the loss weighs them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
            self.second = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
            self.side, self.head = nn.Linear(16, 4), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            early = self.first(x)
            return self.head(self.second(early).mean((2, 3))), self.side(early.mean((2, 3)))

    def loss_fn(outputs: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        return F.cross_entropy(outputs[0], target) + 0.3 * F.cross_entropy(outputs[1], target)

    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Recipe(model=model, train_loader=loader(*images()), loss_fn=loss_fn, optimizer=optimizer)


def dice_and_cross_entropy() -> Recipe:
    x, _ = images(samples=256, channels=1)
    y = (F.avg_pool2d(x, 5, 1, 2) > 0.3).float()

    def loss_fn(logits: Tensor, target: Tensor) -> Tensor:
        probability = logits.sigmoid()
        overlap = 2 * (probability * target).sum((1, 2, 3)) + 1
        dice = 1 - overlap / (probability.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
        return dice.mean() + F.binary_cross_entropy_with_logits(logits, target)

    torch.manual_seed(0)
    model = UNet(classes=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Recipe(model=model, train_loader=loader(x, y, batch_size=16), loss_fn=loss_fn, optimizer=optimizer)
