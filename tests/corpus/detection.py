"""Two heads on one body: what it is, and where. Sums of losses, boxes, anchors, keypoints."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import seeded, shapes


class Shapes(Dataset[dict[str, Tensor]]):
    def __init__(self, samples: int = 480, *, seed: int = 0, flips: str = "") -> None:
        self.pictures, self.kinds, self.boxes = shapes(samples, seed=seed)
        self.flips = flips

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        picture, box = self.pictures[i], self.boxes[i].clone()
        if self.flips and torch.rand(()) < 0.5:
            picture = picture.flip(-1)
            if self.flips == "both":
                box[0] = 1 - box[0]
        return {"image": picture, "label": self.kinds[i], "box": box}


class Detector(nn.Module):
    def __init__(self, *, box_bound: bool = True, width: int = 16, reads_class: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.Flatten(),
            nn.Linear(2 * width * 16, 64), nn.ReLU(),
        )  # fmt: skip
        self.kind, self.box = nn.Linear(64, 3), nn.Linear(64, 4)
        self.box_bound = box_bound

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        box = self.box(h)
        return {"logits": self.kind(h), "box": torch.sigmoid(box) if self.box_bound else box}


def detection(model: nn.Module, step: object, data: Dataset[dict[str, Tensor]] | None = None) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(data or Shapes(), batch_size=24, shuffle=True),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
        training_step=step,
    )


@twin("unused-parameters", row="L31")
def box_loss_not_added(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out = model(batch["image"])
        loss_kind = F.cross_entropy(out["logits"], batch["label"])
        loss_box = 5 * F.smooth_l1_loss(out["box"], batch["box"])
        losses = {"kind": loss_kind} if fault else {"kind": loss_kind, "box": loss_box}
        return sum(losses.values())

    return detection(Detector(), compute_loss)


@twin("gradient-flow", row="L30")
def box_term_a_thousand_times(fault: bool) -> Recipe:
    """The weight of the boxes is that of another repository, where they are sums over ten thousand anchors."""
    torch.manual_seed(1)
    weight = 5000.0 if fault else 5.0

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out = model(batch["image"])
        return F.cross_entropy(out["logits"], batch["label"]) + weight * F.smooth_l1_loss(out["box"], batch["box"])

    return detection(Detector(), compute_loss)


@twin("double-softmax", row="L01")
def softmax_in_the_class_head(fault: bool) -> Recipe:
    torch.manual_seed(2)

    class WithScores(Detector):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            out = super().forward(x)
            return {**out, "logits": out["logits"].softmax(-1)} if fault else out

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out = model(batch["image"])
        return F.cross_entropy(out["logits"], batch["label"]) + 5 * F.smooth_l1_loss(out["box"], batch["box"])

    return detection(WithScores(), compute_loss)


@twin("output-range", "overfit-batch", "label-range", "saturation", row="L09")
def sigmoid_boxes_against_pixels(fault: bool) -> Recipe:
    """Boxes between 0 and 1 against boxes in pixels."""
    torch.manual_seed(3)
    size = 16 if fault else 1

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out = model(batch["image"])
        return F.cross_entropy(out["logits"], batch["label"]) + 5 * F.smooth_l1_loss(out["box"], size * batch["box"])

    return detection(Detector(), compute_loss)


class Corners(nn.Module):
    """Regresses a box from a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(384, 48), nn.ReLU(), nn.Linear(48, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def corners(pictures: Tensor, boxes: Tensor, loss_fn: object, *, model: nn.Module | None = None) -> Recipe:
    model = model or Corners()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(pictures, boxes), batch_size=24, shuffle=True),
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin("data-scale", "overfit-batch", "output-bias-init", row="D08")
def boxes_of_a_satellite_picture(fault: bool) -> Recipe:
    """Boxes in pixels of a mosaic 10 000 wide, as they come from the file."""
    torch.manual_seed(0)
    pictures, _, boxes = shapes()
    return corners(pictures, boxes * 10_000 if fault else (boxes - boxes.mean(0)) / boxes.std(0), nn.MSELoss())


@twin("loss-broadcast", "overfit-batch", row="L14")
def boxes_with_an_axis_more(fault: bool) -> Recipe:
    """A target of (batch, 1, 4), for one object each, against (batch, 4): every box meets every other."""
    torch.manual_seed(1)
    pictures, _, boxes = shapes()
    boxes = (boxes - boxes.mean(0)) / boxes.std(0)

    def distance(out: Tensor, wanted: Tensor) -> Tensor:
        return (out - wanted).abs().mean()

    return corners(pictures, boxes[:, None] if fault else boxes, distance)


@twin("data-scale", "input-preview", row="S17")
def integer_division_of_pixels(fault: bool) -> Recipe:
    """`// 255` on bytes leaves 0 and, for the brightest, 1."""
    torch.manual_seed(2)
    pictures, _, boxes = shapes()
    as_bytes = ((pictures - pictures.min()) / (pictures.max() - pictures.min()) * 255).round().to(torch.uint8)
    scaled = (as_bytes // 255).float() if fault else as_bytes / 255
    return corners(scaled, (boxes - boxes.mean(0)) / boxes.std(0), nn.SmoothL1Loss())


@twin("data-scale", row="S16")
def brightness_wraps_around(fault: bool) -> Recipe:
    """Bytes plus bytes: 200 + 100 is 44."""

    class Brighter(Dataset[tuple[Tensor, Tensor]]):
        def __init__(self) -> None:
            pictures, _, boxes = shapes()
            self.boxes = (boxes - boxes.mean(0)) / boxes.std(0)
            spread = (pictures - pictures.min()) / (pictures.max() - pictures.min())
            self.bytes = (60 + 190 * spread).round().to(torch.uint8)

        def __len__(self) -> int:
            return len(self.bytes)

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            more = int(torch.randint(0, 60, ()))
            if fault:
                picture = self.bytes[i] + torch.tensor(more, dtype=torch.uint8)
            else:
                picture = (self.bytes[i].int() + more).clamp(max=255)
            return (picture.float() / 255 - 0.5) / 0.25, self.boxes[i]

    torch.manual_seed(3)
    model = Corners()
    return Recipe(
        model=model,
        train_loader=DataLoader(Brighter(), batch_size=24, shuffle=True),
        loss_fn=nn.SmoothL1Loss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin(
    "reproducibility",
    "input-baseline",
    row="D26",
    unseen="the flip itself is right; only the box that belongs to it is missing",
)
def picture_flipped_and_box_not(fault: bool) -> Recipe:
    torch.manual_seed(4)

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out = model(batch["image"])
        return F.cross_entropy(out["logits"], batch["label"]) + 5 * F.smooth_l1_loss(out["box"], batch["box"])

    return detection(Detector(), compute_loss, Shapes(flips="image" if fault else "both"))


def anchored(samples: int = 480) -> tuple[Tensor, Tensor]:
    """Which of 8 x 8 cells holds the centre of a shape: one in 64."""
    pictures, _, boxes = shapes(samples)
    cell = (boxes[:, :2] * 8).long().clamp(max=7)
    grid = torch.zeros(samples, 8, 8)
    grid[torch.arange(samples), cell[:, 1], cell[:, 0]] = 1.0
    return pictures, grid


class Heatmap(nn.Module):
    def __init__(self, *, prior: float | None) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU()
        )
        self.deep = nn.Sequential(nn.Conv2d(24, 24, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(24, 1, 1)
        if prior is not None:
            nn.init.constant_(self.head.bias, -math.log((1 - prior) / prior))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(self.down(x))).squeeze(1)


def heatmap_recipe(model: nn.Module, loss_fn: object) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*anchored()), batch_size=16, shuffle=True),
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("output-bias-init", row="I09")
def centre_head_without_its_prior(fault: bool) -> Recipe:
    """One cell in 64 holds a centre; the head starts at one half."""
    torch.manual_seed(0)
    return heatmap_recipe(Heatmap(prior=None if fault else 1 / 64), nn.BCEWithLogitsLoss())


@twin("output-bias-init", "loss-at-init", row="I10")
def prior_with_its_sign_turned(fault: bool) -> Recipe:
    torch.manual_seed(1)
    return heatmap_recipe(Heatmap(prior=63 / 64 if fault else 1 / 64), nn.BCEWithLogitsLoss())


@twin("double-softmax", "loss-at-init", "overfit-batch", row="L03")
def sigmoid_before_the_loss_with_logits(fault: bool) -> Recipe:
    torch.manual_seed(2)

    class Squeezed(Heatmap):
        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x)
            return torch.sigmoid(scores) if fault else scores

    return heatmap_recipe(Squeezed(prior=1 / 64), nn.BCEWithLogitsLoss())


@twin("class-balance", "loss-at-init", row="L22")
def positives_weighted_the_wrong_way(fault: bool) -> Recipe:
    """A few cells of sixteen hold something; `pos_weight` is positives per negative, not negatives per positive."""
    torch.manual_seed(3)
    pictures, _, boxes = shapes()
    ticks = (torch.arange(4) + 0.5) / 4
    reach = boxes[:, 2] / 2
    inside_x = (ticks - boxes[:, :1]).abs() <= reach[:, None]
    inside_y = (ticks - boxes[:, 1:2]).abs() <= reach[:, None]
    grid = (inside_y[:, :, None] & inside_x[:, None, :]).float()
    share = float(grid.mean())
    weight = torch.tensor(share / (1 - share) if fault else (1 - share) / share)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(24, 1, 3, padding=1), nn.Flatten(), nn.Unflatten(1, (4, 4)),
    )  # fmt: skip
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(pictures, grid), batch_size=24, shuffle=True),
        loss_fn=nn.BCEWithLogitsLoss(pos_weight=weight),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("label-range", "finite-values", "forward-pass", row="D10")
def background_class_has_no_output(fault: bool) -> Recipe:
    """Kinds are numbered 1 to 3 in the file, and the head has three outputs."""
    torch.manual_seed(5)
    pictures, kinds, _ = shapes()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 3),
    )  # fmt: skip
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(pictures, kinds + 1 if fault else kinds), batch_size=24, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("unused-parameters", "gradient-flow", row="G21")
def features_kept_detached_by_a_hook(fault: bool) -> Recipe:
    """The box head reads features that a forward hook stored, detached 'to save memory'."""

    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU())
            self.side = nn.Sequential(nn.Conv2d(1, 16, 5, stride=4, padding=2), nn.ReLU())
            self.deep = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU())
            self.kind, self.box = nn.Linear(24, 3), nn.Linear(16 * 16, 4)
            self.kept: list[Tensor] = []
            self.side.register_forward_hook(self.keep)

        def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
            self.kept = [output.detach() if fault else output]

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            self.side(x)
            h = self.deep(self.stem(x))
            side = self.kept.pop()
            return self.kind(h.mean((2, 3))), self.box(side.flatten(1))

    torch.manual_seed(0)
    model = Hooked()

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits, box = model(batch["image"])
        return F.cross_entropy(logits, batch["label"]) + F.l1_loss(box, batch["box"])

    return detection(model, compute_loss)


@twin("gradient-flow", row="G11")
def keypoint_by_argmax(fault: bool) -> Recipe:
    """The hottest cell has no gradient; the centre of mass has."""

    class Keypoint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(1, 16, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 16, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 1, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            heat = self.net(x).flatten(1)
            ticks = (torch.arange(16.0) + 0.5) / 16
            xs, ys = ticks.repeat(16), ticks.repeat_interleave(16)
            if fault:
                hottest = heat.argmax(1)
                return torch.stack([xs[hottest], ys[hottest]], 1).requires_grad_()
            weights = heat.softmax(1)
            return torch.stack([(weights * xs).sum(1), (weights * ys).sum(1)], 1)

    torch.manual_seed(0)
    pictures, _, boxes = shapes()
    model = Keypoint()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(pictures, boxes[:, :2]), batch_size=24, shuffle=True),
        loss_fn=nn.L1Loss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("finite-values", row="G23")
def distance_by_a_bare_root(fault: bool) -> Recipe:
    """The root of a squared distance has no gradient where the box is met: padded boxes are 0, and so is their prediction."""

    class SetOfBoxes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 48), nn.ReLU()
            )
            self.out = nn.Linear(48, 8)

        def forward(self, x: Tensor, kept: Tensor) -> Tensor:
            return self.out(self.body(x)).view(-1, 2, 4) * kept[..., None]

    torch.manual_seed(0)
    pictures, _, boxes = shapes()
    kept = torch.ones(len(boxes), 2)
    kept[:, 1] = (torch.rand(len(boxes), generator=seeded(1)) < 0.3).float()
    wanted = boxes[:, None].repeat(1, 2, 1) * kept[..., None]

    def compute_loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        picture, mask, target = batch
        squares = ((model(picture, mask) - target) ** 2).sum(-1)
        return (squares if fault else squares + 1e-6).sqrt().sum() / mask.sum()

    model = SetOfBoxes()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(pictures, kept, wanted), batch_size=24, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        training_step=compute_loss,
    )
