"""What the scripts share: the parts of a set-up, its batches, its loss, and what is seen on the way."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@dataclass
class SetUp:
    """The parts of the training set-up. `loss` is that of one batch; `train_step(batch, index)` is the file's whole step."""

    model: Any
    train_loader: Any
    loss: Callable[[Any], Any]
    optimizer: Any
    val_loader: Any = None
    scheduler: Any = None
    interval: str | None = None
    epochs: int | None = None
    criterion: Any = None
    train_step: Callable[[Any, int], Any] | None = None
    again: Callable[[], Any] = lambda: None


def load(file: str) -> Any:
    """The user's file as a module; nothing under `if __name__ == "__main__":` runs."""
    path = Path(file).resolve()
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path)]
    spec: Any = importlib.util.spec_from_file_location("checked", path)
    sys.modules["checked"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_from_package(file: str) -> Any:
    """The same for a file that is part of a package."""
    path = Path(file).resolve()
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    sys.path.insert(0, str(folder))
    sys.modules.pop(".".join(names), None)
    return importlib.import_module(".".join(names))


def seed(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(number)


def stand_in() -> None:
    """The file names its parts to `nncheck.Recipe`: here that only keeps them."""

    class Recipe(types.SimpleNamespace):
        def __getattr__(self, name: str) -> None:
            return None

    module: Any = types.ModuleType("nncheck")
    module.Recipe = Recipe
    sys.modules["nncheck"] = module


def made(part: Any, **parts: Any) -> Any:
    """The part itself, or what a function of no arguments but other parts returns."""
    if part is None or isinstance(part, (torch.nn.Module, torch.optim.Optimizer)) or hasattr(part, "__iter__"):
        return part
    if not callable(part):
        return part
    parts["params"] = parts["model"].parameters() if "model" in parts else None
    needed = inspect.signature(part).parameters.values()
    return part(**{p.name: parts[p.name] for p in needed if parts.get(p.name) is not None})


def configured(model: Any) -> tuple[Any, Any, Any]:
    """The optimizer and the scheduler of a LightningModule, and how often that steps."""
    found = model.configure_optimizers()
    plan = None
    if isinstance(found, dict):
        found, plan = found["optimizer"], found.get("lr_scheduler")
    elif isinstance(found, (tuple, list)):
        if len(found) == 2 and isinstance(found[1], (tuple, list)):
            found, plan = found[0], (found[1] or [None])[0]
        found = found[0] if isinstance(found, (tuple, list)) else found
    return (
        (found, plan["scheduler"], plan.get("interval", "epoch")) if isinstance(plan, dict) else (found, plan, "epoch")
    )


def take(loader: Any, number: int) -> list[Any]:
    return list(itertools.islice(iter(loader), number))


def tensors(value: Any) -> list[Any]:
    """Every tensor in a batch or an output, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for item in value for t in tensors(item)] if isinstance(value, (list, tuple)) else []


def mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """A batch with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(change, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [mapped(change, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def samples(batch: Any, rows: Any) -> Any:
    """These samples of a batch."""
    size = len(tensors(batch)[0])
    return mapped(lambda t: t[rows] if t.ndim and len(t) == size else t, batch)


def split(batch: Any) -> tuple[Any, Any]:
    """Inputs and target: the last part of a tuple; a bare tensor is its own target."""
    if isinstance(batch, (list, tuple)) and len(batch) > 1:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), batch[-1]
    if isinstance(batch, Mapping):
        name = next((name for name in ("labels", "label", "target", "targets", "y") if name in batch), None)
        return {k: v for k, v in batch.items() if k != name}, batch.get(name)
    return (batch[0], batch[0]) if isinstance(batch, (list, tuple)) else (batch, batch)


def with_inputs(batch: Any, change: Callable[[Any], Any]) -> Any:
    """A batch whose main input is changed."""
    wanted = tensors(split(batch)[0])[0]
    return mapped(lambda t: change(t) if t is wanted else t, batch)


def answer(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (list, tuple)) else model(inputs)


def scalar(returned: Any) -> Any:
    """The loss in what a model or a step returned."""
    if isinstance(returned, Mapping):
        returned = returned["loss"]
    returned = getattr(returned, "loss", returned)
    if isinstance(returned, (list, tuple)):
        returned = next(t for t in returned if isinstance(t, torch.Tensor) and t.numel() == 1)
    return returned


def output(setup: SetUp, batch: Any) -> Any:
    """The model's output for a batch, on the way to the loss."""
    seen: list[Any] = []
    handle = setup.model.register_forward_hook(lambda module, inputs, out: seen.append(out))
    try:
        setup.loss(batch)
    finally:
        handle.remove()
    last = getattr(seen[-1], "logits", seen[-1])
    return max((t for t in tensors(last) if t.is_floating_point()), key=lambda t: t.numel())


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[Any]:
    """Inside, `owner.name` is `value`; gives what it was."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield before
    finally:
        setattr(owner, name, before)


def loss_before_backward(step: Callable[[Any, int], Any], batch: Any) -> Any:
    """The loss from which a whole training step goes back; it goes no further."""

    class Reached(Exception):
        pass

    def stop(loss: Any, *_: Any, **__: Any) -> None:
        raise Reached(loss)

    with patched(torch.Tensor, "backward", stop):
        try:
            step(batch, 0)
        except Reached as reached:
            return reached.args[0]
    raise SystemExit("the training step calls no backward()")


class Calls(TorchFunctionMode):
    """Notes the calls of torch's functions of these names: (name, arguments, keywords, result)."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names, self.seen = names, list[tuple[str, Any, Any, Any]]()

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        if name in self.names:
            self.seen.append((name, args, kwargs or {}, result))
        return result


LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "multi_margin_loss",
)  # fmt: skip


def loss_calls(setup: SetUp, batch: Any) -> list[tuple[str, Any, Any, Any]]:
    """Torch's losses that are called on the way to the loss of a batch: (name, input, target, value)."""
    with Calls(*LOSSES) as calls:
        setup.loss(batch)
    return [
        (name, *(*args, *(keywords[k] for k in ("input", "target") if k in keywords))[:2], value)
        for name, args, keywords, value in calls.seen
    ]


def first_input(setup: SetUp, batch: Any) -> Any:
    """What enters the first layer with parameters of its own."""
    seen: list[Any] = []
    layers = [m for m in setup.model.modules() if any(True for _ in m.parameters(recurse=False))]
    handles = [m.register_forward_pre_hook(lambda m, inputs: seen.extend(tensors(inputs)[:1])) for m in layers]
    try:
        setup.loss(batch)
    finally:
        for handle in handles:
            handle.remove()
    return (seen or tensors(batch))[0].detach()


def train(setup: SetUp, batches: Any, mode: bool = True) -> list[float]:
    """One update a batch; the loss before each."""
    losses = []
    setup.model.train(mode)
    for index, batch in enumerate(batches):
        if setup.train_step is not None:
            losses.append(float(loss_before_backward(setup.train_step, batch)))
            setup.train_step(batch, index)
            continue
        setup.optimizer.zero_grad()
        loss = setup.loss(batch)
        loss.backward()
        setup.optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def endless(loader: Any, number: int) -> Iterator[Any]:
    """So many batches, epoch after epoch."""
    while number > 0:
        for batch in loader:
            yield batch
            number -= 1
            if number == 0:
                return


def mean_loss(setup: SetUp, batches: list[Any]) -> float:
    """In eval mode, without gradients; the model is put back."""
    training = setup.model.training
    setup.model.eval()
    with torch.no_grad():
        losses = [float(setup.loss(batch)) for batch in batches]
    setup.model.train(training)
    return sum(losses) / len(losses)


def leaves(loss: Any) -> list[Any]:
    """The tensors that collect a gradient of this loss."""
    found, pending, seen = [], [loss.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        pending += [follower for follower, _ in node.next_functions]
    return found
