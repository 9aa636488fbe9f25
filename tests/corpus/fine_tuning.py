"""A small backbone with weights from an earlier task, and hand-made networks: what is registered, frozen and optimised."""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nncheck import Recipe
from tests.corpus import sound, twin
from tests.corpus._sets import batches, digits, pictures

MEAN, STD = 0.40, 0.20


class Backbone(nn.Module):
    """Three convolutions with BatchNorm; 24 features."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 24)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image).mean((2, 3))


class Net(nn.Module):
    def __init__(self, backbone: nn.Module, classes: int = 3) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(24, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.backbone(image))


class Extractor(Net):
    """A backbone whose statistics stay as they were, whatever else learns."""

    def train(self, mode: bool = True) -> Extractor:
        super().train(mode)
        self.backbone.eval()
        return self


@functools.cache
def weights() -> dict[str, Tensor]:
    """What a few epochs on other pictures left in the backbone."""
    torch.manual_seed(99)
    model = Net(Backbone())
    image, kind, _ = pictures(400, seed=99)
    loader = batches((image - MEAN) / STD, kind, 50)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(8):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return copy.deepcopy(model.backbone.state_dict())


def pretrained() -> Backbone:
    backbone = Backbone()
    backbone.load_state_dict(weights())
    return backbone


def task(seed: int = 0, *, normalised: bool = True) -> DataLoader:
    """The new task: which figure, in darker pictures."""
    image, kind, _ = pictures(500, seed=seed)
    image = image * 0.9
    return batches((image - MEAN * 0.9) / (STD * 0.9) if normalised else image * 255 - 20, kind, 25)


def recipe(model: nn.Module, loader: DataLoader, parameters=None, *, lr: float = 1e-3, **parts) -> Recipe:
    optimizer = torch.optim.Adam(parameters or model.parameters(), lr=lr)
    parts = {"loss_fn": nn.CrossEntropyLoss(), **parts}
    return Recipe(model=model, train_loader=loader, optimizer=optimizer, **parts)


@twin("optimizer-coverage", row="G05")
def groups_forget_the_middle(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Net(pretrained())
    layers = model.backbone.layers
    groups = [{"params": layers[:3].parameters(), "lr": 1e-4}, {"params": model.fc.parameters(), "lr": 1e-3}]
    groups.append({"params": layers[6:].parameters() if fault else layers[3:].parameters(), "lr": 3e-4})
    return Recipe(
        model=model, train_loader=task(), loss_fn=nn.CrossEntropyLoss(), optimizer=torch.optim.AdamW(groups, lr=1e-3)
    )


@twin("optimizer-coverage", row="G05")
def only_the_head_given_to_the_optimizer(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Net(Backbone())  # from scratch
    return recipe(model, task(1), model.fc.parameters() if fault else model.parameters(), lr=3e-3)


@twin("optimizer-coverage", row="G06")
def head_replaced_after_the_optimizer_was_made(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Net(pretrained(), classes=10)
    if not fault:
        model.fc = nn.Linear(24, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if fault:
        model.fc = nn.Linear(24, 3)
    return Recipe(model=model, train_loader=task(2), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


@twin("optimizer-coverage", "overfit-batch", "unused-parameters", row="G07")
def freezing_by_name_takes_the_head_too(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Extractor(pretrained()).train()
    for name, p in model.named_parameters():
        if fault:
            p.requires_grad = "layers.1." in name  # meant: everything but the norms and the head
        else:
            p.requires_grad = name.startswith("fc") or "layers.7." in name
    return recipe(model, task(3), [p for p in model.parameters() if p.requires_grad], lr=3e-3)


@twin("optimizer-coverage", row="G08")
def require_grad_without_its_s(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Extractor(pretrained()).train()
    for p in model.backbone.parameters():
        if fault:
            p.require_grad = False
        else:
            p.requires_grad = False
    return recipe(model, task(4), lr=3e-3)


@twin("optimizer-coverage", row="G08")
def requires_grad_set_on_the_module(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Extractor(pretrained()).train()
    if fault:
        model.backbone.requires_grad = False
    else:
        model.backbone.requires_grad_(False)
    return recipe(model, task(5), lr=3e-3)


class NoGrad(Net):
    """Took the encoder's call from an evaluation script."""

    def __init__(self, backbone: nn.Module, how: str) -> None:
        super().__init__(backbone)
        self.how = how

    def forward(self, image: Tensor) -> Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                h = self.backbone(image)
        elif self.how == "data":
            h = self.backbone(image).data
        elif self.how == "tensor":
            h = torch.tensor(self.backbone(image).tolist())
        else:
            h = self.backbone(image)
        return self.fc(h)


@twin(
    "unused-parameters",
    "gradient-flow",
    row="G12",
    unseen="a part called backbone under no_grad is how people freeze one; no number tells that this one was to train",
)
def no_grad_left_around_the_encoder(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(NoGrad(Backbone(), "no_grad" if fault else ""), task(6), lr=3e-3)


@twin("unused-parameters", "gradient-flow", row="G09")
def features_taken_by_data(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(NoGrad(Backbone(), "data" if fault else ""), task(7), lr=3e-3)


@twin("unused-parameters", "gradient-flow", row="G13")
def features_wrapped_in_a_new_tensor(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(NoGrad(Backbone(), "tensor" if fault else ""), task(8), lr=3e-3)


class Extra(Net):
    def __init__(self, use: bool) -> None:
        super().__init__(Backbone())
        self.attention = nn.Sequential(nn.Linear(24, 24), nn.Sigmoid())
        self.use = use

    def forward(self, image: Tensor) -> Tensor:
        h = self.backbone(image)
        return self.fc(h * self.attention(h) if self.use else h)


@twin("unused-parameters", row="G15")
def attention_defined_and_never_called(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Extra(not fault), task(9), lr=3e-3)


@twin("unused-parameters", "optimizer-coverage", "symmetry", row="G16")
def one_layer_four_times(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = digits(900)
    hidden = [nn.Sequential(nn.Linear(48, 48), nn.ReLU())] * 4
    if not fault:
        hidden = [nn.Sequential(nn.Linear(48, 48), nn.ReLU()) for _ in range(4)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), *hidden, nn.Linear(48, 10))
    return recipe(model, batches(x, y))


class Prototypes(nn.Module):
    """Scores by distance to a prototype of every class."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
        start = torch.randn(10, 16) * 0.3
        if kind == "tensor":
            self.prototypes = start.requires_grad_()
        elif kind == "product":
            self.prototypes = nn.Parameter(start) * 1.0
        else:
            self.prototypes = nn.Parameter(start)

    def forward(self, image: Tensor) -> Tensor:
        return -torch.cdist(self.embed(image), self.prototypes).pow(2)


@twin("optimizer-coverage", "checkpoint", row="G02")
def prototypes_as_a_plain_tensor(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Prototypes("tensor" if fault else "parameter"), batches(*digits(900)))


class Gate(nn.Module):
    """A learned gain before the activation."""

    def __init__(self, moved: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48))
        if moved:
            self.gain = nn.Parameter(torch.randn(48)) * 0.1 + 1
        else:
            self.gain = nn.Parameter(torch.randn(48) * 0.1 + 1)
        self.head = nn.Linear(48, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(F.relu(self.net(image) * self.gain))


@twin("optimizer-coverage", "checkpoint", row="G03")
def parameter_scaled_when_it_is_made(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Gate(fault), batches(*digits(900)))


class Fresh(nn.Module):
    def __init__(self, fresh: bool) -> None:
        super().__init__()
        self.fresh = fresh
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.middle = nn.Linear(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        h = self.stem(image)
        middle = nn.Linear(32, 32) if self.fresh else self.middle
        return self.head(F.relu(middle(h)))


@twin("eval-mode", "optimizer-coverage", "unused-parameters", row="G04")
def layer_made_inside_forward(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Fresh(fault)
    if fault:
        del model.middle
    return recipe(model, batches(*digits(900)))


class Hooked(nn.Module):
    """An auxiliary loss on features that a hook keeps."""

    def __init__(self, detached: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.aux = nn.Sequential(nn.Linear(32, 24), nn.ReLU())
        self.aux_out = nn.Linear(24, 10)
        self.head = nn.Linear(32, 10)
        self.kept: Tensor | None = None
        self.detached = detached
        self.aux.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.kept = output.detach() if self.detached else output

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(image)
        self.aux(h)
        kept, self.kept = self.kept, None
        assert kept is not None
        return self.head(h), self.aux_out(kept)


@twin("unused-parameters", "gradient-flow", row="G21")
def hook_keeps_a_detached_copy(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Hooked(fault)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        image, label = batch
        main, aux = model(image)
        return F.cross_entropy(main, label) + 0.3 * F.cross_entropy(aux, label)

    return recipe(model, batches(*digits(900)), loss_fn=None, training_step=training_step)


class FrozenNorms(Net):
    """Freezes the norms of its backbone, in train()."""

    def __init__(self, forgets_mode: bool) -> None:
        super().__init__(pretrained())
        self.forgets_mode = forgets_mode

    def train(self, mode: bool = True) -> FrozenNorms:
        super().train(True if self.forgets_mode else mode)
        for layer in self.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
                layer.requires_grad_(False)
        return self


@twin("eval-mode", row="E05")
def train_forgets_its_mode(fault: bool) -> Recipe:
    """eval() calls train(False): dropout stays on."""
    torch.manual_seed(0)
    model = FrozenNorms(fault)
    model.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(24, 3))
    model.train()
    return recipe(model, task(10), [p for p in model.parameters() if p.requires_grad])


class Frozen(Net):
    """Only the head learns; a correct freeze also fixes the statistics."""

    def __init__(self, statistics_too: bool) -> None:
        super().__init__(pretrained())
        self.statistics_too = statistics_too
        self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        if self.statistics_too:
            self.backbone.eval()
        return self


@twin("eval-mode", row="E11")
def frozen_but_its_statistics_move(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Frozen(not fault)
    model.train()
    return recipe(model, task(11), model.fc.parameters(), lr=5e-3)


class LoRA(nn.Module):
    """A low-rank change of a frozen layer."""

    def __init__(self, layer: nn.Linear, *, both_zero: bool, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.a = nn.Parameter(torch.zeros(rank, layer.in_features))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))
        if not both_zero:
            nn.init.kaiming_uniform_(self.a, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.a.T @ self.b.T


@twin("symmetry", "gradient-flow", "unused-parameters", row="I05")
def both_factors_start_at_zero(fault: bool) -> Recipe:
    torch.manual_seed(0)
    first, second = nn.Linear(64, 48), nn.Linear(48, 48)
    model = nn.Sequential(
        nn.Flatten(),
        LoRA(first, both_zero=fault),
        nn.ReLU(),
        LoRA(second, both_zero=fault),
        nn.ReLU(),
        nn.Linear(48, 10),
    )
    return recipe(model, batches(*digits(900)), [p for p in model.parameters() if p.requires_grad], lr=5e-3)


@twin(
    "checkpoint",
    "loss-at-init",
    row="I08",
    unseen="a backbone that starts from fresh weights is what training from scratch looks like too",
)
def initialised_after_loading(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Net(pretrained())

    def init(layer: nn.Module) -> None:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    (model if fault else model.fc).apply(init)
    return recipe(model, task(12))


@twin("data-scale", "train-val-shift", "loss-at-init", "activation-scale", row="D03")
def pretrained_without_its_normalisation(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Net(pretrained()), task(13, normalised=not fault))


@twin("optimizer-coverage", "update-ratio", "learning-rate", row="O07")
def a_group_with_rate_zero(fault: bool) -> Recipe:
    """A discriminative rate that integer division made zero."""
    torch.manual_seed(0)
    model = Net(pretrained())
    rate = 1 // 1000 if fault else 1 / 1000
    groups = [{"params": model.backbone.parameters(), "lr": rate}, {"params": model.fc.parameters(), "lr": 3e-3}]
    return Recipe(
        model=model, train_loader=task(14), loss_fn=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam(groups, lr=1e-3)
    )


class Student(nn.Module):
    """A student that follows the average of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Net(Backbone())
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Student:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        out = self.student(image)
        with torch.no_grad():
            soft = self.teacher(image).softmax(1)
        return out, soft


@twin(
    "optimizer-coverage",
    "unused-parameters",
    row="O22",
    unseen="no gradient reaches the teacher, and torch's optimizers leave alone what has none: both train bit for bit alike",
)
def teacher_given_to_the_optimizer(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Student()
    if fault:
        model.teacher.requires_grad_(True)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        image, label = batch
        out, soft = model(image)
        return F.cross_entropy(out, label) + 0.1 * F.kl_div(out.log_softmax(1), soft, reduction="batchmean")

    parameters = model.parameters() if fault else model.student.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.05)
    return Recipe(model=model, train_loader=task(15), training_step=training_step, optimizer=optimizer)


class Scaler(nn.Module):
    """Standardises with statistics of the training data."""

    def __init__(self, buffers: bool) -> None:
        super().__init__()
        x, _ = digits(900)
        mean, spread = x.mean(), x.std()
        if buffers:
            self.register_buffer("mean", mean)
            self.register_buffer("spread", spread)
            self.register_buffer("seen", torch.zeros(()))
        else:
            self.mean, self.spread, self.seen = mean, spread, torch.zeros(())
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))

    def forward(self, image: Tensor) -> Tensor:
        if self.training:  # a running mean, as BatchNorm's
            self.seen = self.seen + 1
            self.mean = 0.95 * self.mean + 0.05 * image.mean().detach()
        return self.net((image - self.mean) / self.spread)


@twin("checkpoint", row="C04")
def running_statistics_as_attributes(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Scaler(not fault), batches(*digits(900)))


@sound("G05")
def head_trained_on_a_frozen_backbone() -> Recipe:
    torch.manual_seed(0)
    model = Frozen(True)
    model.train()
    nn.init.zeros_(model.fc.weight)
    nn.init.zeros_(model.fc.bias)
    return recipe(model, task(16), model.fc.parameters(), lr=5e-3)


@sound("I05")
def lora_as_published() -> Recipe:
    torch.manual_seed(0)
    model = Extractor(pretrained()).train()
    model.requires_grad_(False)
    model.fc = nn.Sequential(LoRA(nn.Linear(24, 24), both_zero=False), nn.ReLU(), nn.Linear(24, 3))
    return recipe(model, task(17), [p for p in model.parameters() if p.requires_grad], lr=3e-3)


@sound("O22")
def teacher_as_a_moving_average() -> Recipe:
    torch.manual_seed(0)
    model = Student()

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        image, label = batch
        with torch.no_grad():
            for slow, fast in zip(model.teacher.parameters(), model.student.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        out, soft = model(image)
        return F.cross_entropy(out, label) + 0.1 * F.kl_div(out.log_softmax(1), soft, reduction="batchmean")

    return Recipe(
        model=model,
        train_loader=task(18),
        training_step=training_step,
        optimizer=torch.optim.AdamW(model.student.parameters(), lr=2e-3),
    )


@sound("G16")
def one_block_applied_four_times() -> Recipe:
    """Weights are shared on purpose, and the network says so."""
    torch.manual_seed(0)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 32))
            self.block = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
            self.head = nn.Linear(32, 10)

        def forward(self, image: Tensor) -> Tensor:
            h = self.stem(image)
            for _ in range(4):
                h = h + self.block(h)
            return self.head(h)

    return recipe(Recurrent(), batches(*digits(900)))


@sound("O11")
def two_groups_with_and_without_decay() -> Recipe:
    torch.manual_seed(0)
    model = Net(pretrained())
    weights_, rest = [], []
    for p in model.parameters():
        (weights_ if p.ndim > 1 else rest).append(p)
    optimizer = torch.optim.AdamW(
        [{"params": weights_, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=1e-3
    )
    return Recipe(model=model, train_loader=task(19), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


@sound("G15")
def unused_layer_of_a_library_frozen() -> Recipe:
    torch.manual_seed(0)
    model = Extra(use=False)
    model.attention.requires_grad_(False)
    return recipe(model, task(20), [p for p in model.parameters() if p.requires_grad], lr=3e-3)
