"""A class for every pixel: small U-Nets, masks with borders to ignore, Dice losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nncheck import Recipe
from tests.corpus import sound, twin
from tests.corpus._sets import batches, pictures


def double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    def __init__(self, classes: int, *, last: nn.Module | None = None, skip: bool = True) -> None:
        super().__init__()
        self.down, self.bottom = double(3, 8), double(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.merge = double(16 if skip else 8, 8)
        self.out = nn.Conv2d(8, classes, 1)
        self.last = last or nn.Identity()
        self.skip = skip

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down(image)
        h = self.up(self.bottom(F.max_pool2d(fine, 2)))
        h = self.merge(torch.cat([fine, h], 1) if self.skip else h)
        return self.last(self.out(h))


def scenes(count: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normalised pictures and masks of four classes."""
    image, _, mask = pictures(count, seed=seed)
    return (image - 0.4) / 0.2, mask


def binary(count: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Figure or ground, with a channel axis."""
    image, mask = scenes(count, seed)
    return image, (mask > 0).float()[:, None]


PRIOR = torch.tensor([0.88, 0.05, 0.04, 0.03]).log()


def with_prior(model: UNet) -> UNet:
    """Most pixels are ground, and the last layer may know it from the start."""
    with torch.no_grad():
        model.out.bias.copy_(PRIOR if len(model.out.bias) == 4 else torch.full_like(model.out.bias, -1.9))
    return model


def recipe(model: nn.Module, loader: DataLoader, loss, *, lr: float = 3e-3, **parts) -> Recipe:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return Recipe(model=model, train_loader=loader, loss_fn=loss, optimizer=optimizer, **parts)


@twin("double-softmax", "overfit-batch", row="L01")
def softmax_over_the_channels(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = with_prior(UNet(4, last=nn.Softmax(dim=1) if fault else None))
    return recipe(model, batches(*scenes(), 20), nn.CrossEntropyLoss())


@twin("loss-broadcast", "overfit-batch", "input-baseline", row="L13")
def flattened_without_moving_the_channels(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        scores = output.reshape(-1, 4) if fault else output.permute(0, 2, 3, 1).reshape(-1, 4)
        return F.cross_entropy(scores, target.reshape(-1))

    return recipe(with_prior(UNet(4)), batches(*scenes(seed=1), 20), loss)


class Dice(nn.Module):
    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        p = torch.sigmoid(output) if self.sigmoid else output
        overlap = (p * target).sum((1, 2, 3))
        return (1 - (2 * overlap + 1) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)).mean()


@twin("loss-at-init", "output-range", "loss-decreases", row="L33")
def dice_of_raw_scores(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(UNet(1), batches(*binary(seed=2), 20), Dice(sigmoid=not fault))


@twin("label-range", "loss-decreases", "loss-at-init", "data-scale", row="L25")
def masks_of_zero_and_255(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = binary(seed=3)
    return recipe(with_prior(UNet(1)), batches(x, y * 255 if fault else y, 20), nn.BCEWithLogitsLoss())


def bordered(mask: Tensor, value: int) -> Tensor:
    """A border of one pixel that nobody labelled, as in public sets."""
    mask = mask.clone()
    mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1] = value, value, value, value
    return mask


@twin("label-range", "forward-pass", row="D10")
def border_of_255_not_declared(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = scenes(seed=4)
    loss = nn.CrossEntropyLoss() if fault else nn.CrossEntropyLoss(ignore_index=255)
    return recipe(with_prior(UNet(4)), batches(x, bordered(y, 255), 20), loss)


@twin("loss-at-init", "label-range", row="L18")
def mean_over_ignored_pixels_too(fault: bool) -> Recipe:
    """Only a tenth of the pixels was annotated."""
    torch.manual_seed(0)
    x, y = scenes(seed=5)
    sparse = torch.rand(y.shape, generator=torch.Generator().manual_seed(5)) < 0.9
    y = y.masked_fill(sparse, 255)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        if fault:
            return F.cross_entropy(output, target, ignore_index=255, reduction="none").mean()
        return F.cross_entropy(output, target, ignore_index=255)

    return recipe(with_prior(UNet(4)), batches(x, y, 20), loss)


@twin(
    "label-range",
    "class-balance",
    row="L19",
    unseen="maps whose void has a number and an output of its own, and is ignored, are common (11 in CamVid, 0 in SemanticKITTI): "
    "the labels do not say that some of the void were meant",
)
def a_real_class_is_ignored(fault: bool) -> Recipe:
    """255 was mapped to 3 so that the labels fit a byte; 3 is the crosses."""
    torch.manual_seed(0)
    x, y = scenes(seed=6)
    loss = nn.CrossEntropyLoss(ignore_index=3 if fault else 255)
    return recipe(with_prior(UNet(4)), batches(x, bordered(y, 3 if fault else 255), 20), loss)


@twin("loss-at-init", "learning-rate", row="L17")
def loss_summed_over_pixels(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = with_prior(UNet(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss = nn.CrossEntropyLoss(reduction="sum" if fault else "mean")
    return Recipe(model=model, train_loader=batches(*scenes(seed=7), 20), loss_fn=loss, optimizer=optimizer)


class Flipping(Dataset):
    def __init__(self, x: Tensor, y: Tensor, both: bool) -> None:
        self.x, self.y, self.both = x, y, both

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.x[index], self.y[index]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
            mask = mask.flip(-1) if self.both else mask
        return image, mask


@twin(
    "overfit-batch",
    "input-baseline",
    row="D26",
    unseen="half of the pairs still fit, and nothing but the user's transform says that the others were meant to",
)
def picture_flipped_mask_not(fault: bool) -> Recipe:
    torch.manual_seed(0)
    loader = DataLoader(Flipping(*scenes(seed=8), both=not fault), batch_size=20, shuffle=True)
    return recipe(with_prior(UNet(4)), loader, nn.CrossEntropyLoss())


class SideOutput(nn.Module):
    """A U-Net with a second head at half size, as deep supervision wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = UNet(4)
        self.side = nn.Conv2d(16, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.net.down(image)
        coarse = self.net.bottom(F.max_pool2d(fine, 2))
        h = self.net.merge(torch.cat([fine, self.net.up(coarse)], 1))
        return self.net.out(h), self.side(coarse)


@twin("unused-parameters", "optimizer-coverage", row="L31")
def side_loss_computed_and_forgotten(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = SideOutput()
    with_prior(model.net)
    nn.init.zeros_(model.side.weight)
    with torch.no_grad():
        model.side.bias.copy_(PRIOR)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        image, mask = batch
        main, side = model(image)
        loss = F.cross_entropy(main, mask)
        side_loss = F.cross_entropy(side, mask[:, ::2, ::2])
        return loss if fault else loss + 0.4 * side_loss

    return Recipe(
        model=model,
        train_loader=batches(*scenes(seed=9), 20),
        training_step=training_step,
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


class Attended(nn.Module):
    """Channel weights from a pooled picture."""

    def __init__(self, dim: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = dim
        self.stem, self.gate = double(3, 12), nn.Sequential(nn.Linear(12, 12), nn.Sigmoid())
        self.out = nn.Conv2d(12, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        h = self.stem(image)
        weight = self.gate(h.mean(self.dim)).view(-1, 12, 1, 1)
        return self.out(h * weight)


@twin("batch-mixing", "batch-consistency", row="S06")
def pooled_over_the_batch_as_well(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = with_prior(Attended((0, 2, 3) if fault else (2, 3)))
    return recipe(model, batches(*scenes(seed=10), 20), nn.CrossEntropyLoss())


class Cropped(nn.Module):
    """Forgets the residual that its branch was made for."""

    def __init__(self, dropped: bool) -> None:
        super().__init__()
        self.stem, self.branch, self.out = double(3, 8), double(8, 8), nn.Conv2d(8, 4, 1)
        self.dropped = dropped

    def forward(self, image: Tensor) -> Tensor:
        h = self.stem(image)
        refined = h + self.branch(h)
        return self.out(h if self.dropped else refined)


@twin("unused-parameters", row="G14")
def refinement_computed_and_dropped(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(with_prior(Cropped(fault)), batches(*scenes(seed=11), 20), nn.CrossEntropyLoss())


@twin("eval-mode", row="E09")
def statistics_that_hardly_move(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = with_prior(UNet(4))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0005 if fault else 0.1
    return recipe(model, batches(*scenes(seed=12), 20), nn.CrossEntropyLoss())


@sound("L33")
def dice_and_cross_entropy_together() -> Recipe:
    torch.manual_seed(0)
    dice = Dice(sigmoid=True)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return 0.5 * F.binary_cross_entropy_with_logits(output, target) + 0.5 * dice(output, target)

    return recipe(with_prior(UNet(1)), batches(*binary(seed=13), 20), loss)


@sound("L19")
def border_declared_and_ground_weighted_down() -> Recipe:
    torch.manual_seed(0)
    x, y = scenes(seed=14)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.15, 1.2, 1.3, 1.4]), ignore_index=255)
    return recipe(UNet(4), batches(x, bordered(y, 255), 20), loss)


@sound("D26")
def picture_and_mask_flipped_together() -> Recipe:
    torch.manual_seed(0)
    loader = DataLoader(Flipping(*scenes(seed=15), both=True), batch_size=20, shuffle=True)
    return recipe(with_prior(UNet(4)), loader, nn.CrossEntropyLoss())


@sound("G15")
def side_head_for_evaluation_frozen() -> Recipe:
    """A head that only evaluation uses, and that asks for no gradient."""
    torch.manual_seed(0)
    model = SideOutput()
    with_prior(model.net)
    model.side.requires_grad_(False)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        image, mask = batch
        main, _ = model(image)
        return F.cross_entropy(main, mask)

    return Recipe(
        model=model,
        train_loader=batches(*scenes(seed=16), 20),
        training_step=training_step,
        optimizer=torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3),
    )
