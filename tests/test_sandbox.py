"""After every probe, and after a whole check, everything of the user's is as it was, bit for bit."""

from __future__ import annotations

import importlib
import os
import pkgutil
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset

import nncheck
import nncheck.probes
from nncheck.errors import CannotMeasure
from nncheck.evidence import Evidence
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import load, probe_of
from nncheck.target.assemble import assemble

PROBES = sorted(module.name for module in pkgutil.iter_modules(nncheck.probes.__path__))


def _data(*shape: int, classes: int = 3, dtype: torch.dtype = torch.float32) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, *shape, generator=generator, dtype=dtype)
    return TensorDataset(x, torch.randint(classes, (24,), generator=generator))


def _used(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """Two steps and one backward more: the optimizer has a state, the parameters have gradients."""
    for _ in range(2):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    loss().backward()


def image_network() -> nncheck.Recipe:
    """BatchNorm with running statistics, dropout, Adam's state, gradients that wait to be applied, a frozen layer."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
    )
    model[0].bias.requires_grad_(False)
    model[1].eval()
    data = _data(1, 6, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=50)
    x, y = data.tensors
    _used(model, optimizer, lambda: nn.functional.cross_entropy(model(x), y))
    return nncheck.Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3)),
        loss_fn=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0])),
        optimizer=optimizer,
        scheduler=scheduler,
    )


class Recurrent(nn.Module):
    """Keeps its hidden state, a counter, a list of what it saw and a generator of its own as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)
        self.hidden: Any = None
        self.calls = 0
        self.norms: list[float] = []
        self.cache: dict[str, Any] = {"last": None}
        self.generator = torch.Generator().manual_seed(5)
        self.numpy_generator = np.random.default_rng(7)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        noise = 0.01 * torch.randn(x.shape, generator=self.generator) * self.numpy_generator.random()
        output, hidden = self.cell(x + noise)
        self.hidden = tuple(h.detach() for h in hidden)
        self.norms.append(float(output.detach().norm()))
        self.cache["last"] = output.detach()
        return self.head(output[:, -1])


def recurrent_network() -> nncheck.Recipe:
    model = Recurrent()
    data = _data(5, 4)
    model(data.tensors[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return nncheck.Recipe(
        model=model, train_loader=DataLoader(data, batch_size=8), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer
    )


class ListOfLayers(nn.Module):
    """Layers in a plain list, and a hook of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)]
        self.scale = nn.Parameter(torch.ones(1))
        self.register_forward_hook(lambda module, inputs, output: output * 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.layers[1](self.layers[0](x)))
        return self.layers[2](x) * self.scale


def list_of_layers() -> nncheck.Recipe:
    model = ListOfLayers()
    return nncheck.Recipe(
        model=model,
        train_loader=DataLoader(_data(4), batch_size=8, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters()),
    )


class LightningModule(nn.Module):
    """Looks like one: that is how nncheck tells."""

    automatic_optimization = True

    def __init__(self) -> None:
        super().__init__()
        self._trainer = None
        self.net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
        self.logged: list[str] = []

    def log(self, name: str, value: Any) -> None:
        self.logged.append(name)


class Lit(LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return loss

    def train_dataloader(self) -> Any:
        return DataLoader(_data(4), batch_size=8)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10)}


def lightning_like() -> nncheck.Recipe:
    return nncheck.Recipe(model=Lit())


class Learned(nn.Module):
    """A loss with parameters and a buffer that moves."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(output, target)
        self.mean.mul_(0.9).add_(0.1 * loss.detach())
        return loss * torch.exp(-self.log_scale).squeeze() + self.log_scale.squeeze()


def loss_with_parameters() -> nncheck.Recipe:
    model, loss_fn = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), Learned()
    optimizer = torch.optim.Adam([*model.parameters(), *loss_fn.parameters()], lr=1e-3)
    return nncheck.Recipe(
        model=model, train_loader=DataLoader(_data(4), batch_size=8), loss_fn=loss_fn, optimizer=optimizer
    )


class Tied(nn.Module):
    """Tied embeddings, spectral normalisation (which moves a buffer in train mode) and a parametrized weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.middle = parametrizations.spectral_norm(nn.Linear(6, 6))
        self.normed = parametrizations.weight_norm(nn.Linear(6, 6))
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(torch.relu(self.normed(self.middle(x)))).flatten(0, 1)


def tied_and_normalised() -> nncheck.Recipe:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(7, (16, 5), generator=generator)
    model = Tied()
    return nncheck.Recipe(
        model=model,
        train_loader=[(tokens[:8, :-1], tokens[:8, 1:]), (tokens[8:, :-1], tokens[8:, 1:])],
        loss_fn=lambda output, target: nn.functional.cross_entropy(output, target.flatten()),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )


def step_with_a_teacher() -> nncheck.Recipe:
    """A training_step that moves things outside of the model: an averaged teacher, a scaler, a history."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    teacher = torch.optim.swa_utils.AveragedModel(model)
    history: list[float] = []

    def training_step(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        teacher.update_parameters(model)
        loss = nn.functional.cross_entropy(model(x + random.random() * 0.01 + float(np.random.rand()) * 0.01), y)
        history.append(float(loss.detach()))
        return loss + nn.functional.mse_loss(model(x), teacher(x).detach())

    return nncheck.Recipe(
        model=model,
        train_loader=DataLoader(_data(4), batch_size=8, shuffle=True),
        training_step=training_step,
        optimizer=torch.optim.RMSprop(model.parameters(), lr=1e-3),
    )


def double_precision() -> nncheck.Recipe:
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 3)).double()
    model.eval()
    return nncheck.Recipe(
        model=model,
        train_loader=DataLoader(_data(4, dtype=torch.float64), batch_size=8),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adagrad(model.parameters()),
    )


SETUPS: dict[str, Callable[[], nncheck.Recipe]] = {
    setup.__name__: setup
    for setup in (
        image_network,
        recurrent_network,
        list_of_layers,
        lightning_like,
        loss_with_parameters,
        tied_and_normalised,
        step_with_a_teacher,
        double_precision,
    )
}


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _state_of(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Everything reachable from a value: identity of objects and containers, bits of tensors, state of generators."""
    if isinstance(value, Tensor):
        grad = value.grad if value.is_leaf else None
        yield path, (id(value), value.dtype, tuple(value.shape), value.requires_grad, value.data_ptr(), _bits(value))
        yield f"{path}.grad", None if grad is None else (id(grad), _bits(grad))
        return
    if isinstance(value, (int, float, str, bool, bytes, type(None), complex)):
        yield path, repr(value)
        return
    yield path, (id(value), type(value))
    if id(value) in seen or isinstance(value, type):
        return
    seen.add(id(value))
    if isinstance(value, torch.Generator):
        yield f"{path}.state", _bits(value.get_state())
    elif isinstance(value, np.random.Generator):
        yield f"{path}.state", repr(value.bit_generator.state)
    elif isinstance(value, dict):
        yield f"{path}.keys", [id(k) if isinstance(k, Tensor) else k for k in value]
        for key, item in value.items():
            yield from _state_of(item, f"{path}[{'tensor' if isinstance(key, Tensor) else key!r}]", seen)
    elif isinstance(value, (list, tuple, set)):
        for index, item in enumerate(value):
            yield from _state_of(item, f"{path}[{index}]", seen)
    elif callable(value) and hasattr(value, "__closure__"):
        for index, cell in enumerate(value.__closure__ or ()):
            yield from _state_of(cell.cell_contents, f"{path}.cell{index}", seen)
    elif isinstance(value, (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)):
        yield f"{path}.__dict__", list(vars(value))
        for name, item in vars(value).items():
            yield from _state_of(item, f"{path}.{name}", seen)


def _world(setup: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    seen: set[int] = set()
    for part in ("model", "loss_fn", "optimizer", "scheduler", "training_step", "train_step"):
        state.update(_state_of(getattr(setup, part), part, seen))
    loader = setup.train_loader
    if isinstance(loader, DataLoader):
        state.update(_state_of(loader.generator, "loader.generator", seen))
        state["loader"] = {k: id(v) for k, v in vars(loader).items()}
        for i, tensor in enumerate(loader.dataset.tensors):
            state[f"data[{i}]"] = _bits(tensor)
    state["modes"] = [(name, module.training) for name, module in setup.model.named_modules()]
    state["global hooks"] = (
        len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_forward_pre_hooks),
        len(nn.modules.module._global_backward_hooks),
    )  # fmt: skip
    state["torch rng"] = _bits(torch.get_rng_state())
    state["python rng"] = random.getstate()
    state["numpy rng"] = repr(np.random.get_state())
    state["dtype"], state["grad"] = torch.get_default_dtype(), torch.is_grad_enabled()
    state["deterministic"] = torch.are_deterministic_algorithms_enabled()
    state["threads"] = torch.get_num_threads()
    state["environment"] = dict(os.environ)
    state["folder"] = os.getcwd()
    state["files"] = sorted(map(str, Path().rglob("*")))
    state["warnings"] = list(warnings.filters)
    return state


def _assert_same(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    assert not changed, f"{what} changed {changed[:12]}"


def _evidence_types() -> dict[str, type]:
    """Every probe's evidence type by the name of the probe's file."""
    import typing

    found = {}
    for name in PROBES:
        module = importlib.import_module(f"nncheck.probes.{name}")
        for function in vars(module).values():
            if getattr(function, "__module__", "") != module.__name__ or not callable(function):
                continue
            try:
                kind = typing.get_type_hints(function).get("return")
                if isinstance(kind, type) and probe_of(kind) is function:
                    found[f"{name}:{function.__name__}"] = kind
            except (LookupError, TypeError, NameError):
                continue
    return found


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def test_every_probe_is_found() -> None:
    load()
    assert {kind.split(":")[0] for kind in _evidence_types()} == set(PROBES)


@pytest.mark.parametrize("name", SETUPS)
def test_every_probe_leaves_everything_as_it_was(name: str) -> None:
    load()
    setup = assemble(SETUPS[name](), seed=0)
    if name == "image_network":
        setup.model.train()
        setup.model[1].eval()
    torch.manual_seed(11)
    random.seed(12)
    np.random.seed(13)
    evidence = Evidence(Sandbox(setup, seed=0, device=torch.device("cpu")))
    before = _world(setup)
    for probe, kind in _evidence_types().items():
        try:
            evidence.get(kind)
        except CannotMeasure:
            continue
        finally:
            _assert_same(before, _world(setup), f"{probe} on {name}")


@pytest.mark.parametrize("name", ["image_network", "lightning_like", "step_with_a_teacher"])
def test_a_whole_check_leaves_everything_as_it_was(name: str) -> None:
    setup = assemble(SETUPS[name](), seed=0)
    recipe = nncheck.Recipe(
        model=setup.model,
        train_loader=setup.train_loader,
        loss_fn=setup.loss_fn,
        optimizer=setup.optimizer,
        scheduler=setup.scheduler,
        training_step=setup.training_step,
    )
    before = _world(setup)
    report = nncheck.check(recipe, seed=0)
    _assert_same(before, _world(setup), f"nncheck.check on {name}")
    said = {result.id: result.summary for result in report.targets[0].checks if result.status == "error"}
    assert report.targets[0].problem is None
    assert not said


def test_a_probe_that_fails_leaves_everything_as_it_was() -> None:
    setup = assemble(SETUPS["image_network"](), seed=0)
    sandbox = Sandbox(setup, seed=0, device=torch.device("cpu"))
    before = _world(setup)
    with pytest.raises(ZeroDivisionError), sandbox.trial() as model:  # noqa: PT012
        outcome = sandbox.forward(sandbox.feed.first)
        sandbox.backward(outcome.loss, sandbox.feed.first)
        setup.optimizer.step()
        setup.scheduler.step()
        model.add_module("extra", nn.Linear(2, 2))
        model[0].weight.requires_grad_(False)
        model[0].weight.data = torch.zeros(1)
        torch.set_default_dtype(torch.float64)
        _ = 1 / 0
    _assert_same(before, _world(setup), "a failed trial")
