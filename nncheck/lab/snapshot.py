"""Take down the state of the user's objects and put it back, bit for bit.

Probes work on the user's own objects, not on copies: a copy loses what a set-up is about (an optimizer's parameters, a
loss that holds the model, layers in a list, tensors that cannot be deep-copied). So everything reachable is written down
once, and put back after every trial: tensors by value, containers and attributes by content, generators by state.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_LIBRARIES = (
    *{str(Path(p).resolve()) for p in sys.path if "site-packages" in p or "dist-packages" in p},
    str(Path(random.__file__).resolve().parent),
)


class Snapshot:
    """The state of everything reachable from `roots` at the time of its making; `restore()` may be called often."""

    def __init__(self, roots: Iterable[Any]) -> None:
        self._undo: list[Callable[[], None]] = []
        self._tensors: list[_Saved] = []
        self._copies: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], list[Tensor]]] = {}
        self._seen: dict[int, Any] = {}  # keeps what it saw alive, so that an id stays one object's
        for root in roots:
            self._visit(root)
        self._rng = RandomState()

    def restore(self) -> None:
        """Put everything back as it was."""
        with torch.no_grad():
            for saved in self._tensors:
                saved.point_back()
            for present, values in self._copies.values():
                torch._foreach_copy_(present, values)
            for undo in self._undo:
                undo()
        self._rng.restore()

    def _visit(self, value: Any) -> None:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type)) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, (dict, list, set, deque)):
            self._container(value)
        elif isinstance(value, (tuple, frozenset)):
            for item in value:
                self._visit(item)
        elif isinstance(value, torch.Generator):
            state = value.get_state()
            self._undo.append(lambda: _ignore(value.set_state(state)))
        elif isinstance(value, random.Random):
            python_state = value.getstate()
            self._undo.append(lambda: value.setstate(python_state))
        elif isinstance(value, functools.partial):
            self._visit(value.func)
            self._visit(value.args)
            self._visit(value.keywords)
        elif isinstance(value, types.MethodType):
            self._visit(value.__self__)
            self._visit(value.__func__)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif type(value).__module__.partition(".")[0] == "numpy":
            self._numpy(value)
        elif _is_stateful(value):
            self._object(value)

    def _tensor(self, tensor: Tensor) -> None:
        if nn.parameter.is_lazy(tensor) or tensor.is_inference() or tensor.is_meta:
            return
        grad = tensor.grad if tensor.is_leaf else None
        self._tensors.append(
            _Saved(tensor=tensor, data=tensor.data, requires_grad=tensor.requires_grad, leaf=tensor.is_leaf, grad=grad)
        )
        self._undo.append(_attributes_back(tensor))  # gradients of single samples, counters of passes
        for item in list(vars(tensor).values()):
            self._visit(item)
        for present in (tensor, grad) if grad is not None else (tensor,):
            if (
                present.layout is not torch.strided
                or present.is_quantized
                or 0 in present.stride()
                or is_wrapper(present)
            ):
                value = present.detach().clone()
                self._undo.append(functools.partial(_copy_if_changed, present, value))
                continue
            # All tensors of a kind are copied at once: a thousand layers cost no thousand calls. Written through `.data`, an
            # untouched tensor keeps its version counter, so that a graph the user still holds stays usable.
            held, values = self._copies.setdefault((present.dtype, present.device), ([], []))
            held.append(present.data)
            values.append(present.detach().clone())

    def _container(self, value: Any) -> None:
        saved = value.copy()

        def undo() -> None:
            if isinstance(value, (dict, set)):
                same = len(value) == len(saved) and all(k in value for k in saved)
                if isinstance(value, dict):
                    same = same and all(a is b for a, b in zip(value, saved, strict=True))
                    same = same and all(value[k] is saved[k] for k in saved)
                if not same:
                    value.clear()
                    value.update(saved)
            elif len(value) != len(saved) or any(a is not b for a, b in zip(value, saved, strict=True)):
                value.clear()
                value.extend(saved)

        self._undo.append(undo)
        for item in saved.values() if isinstance(saved, dict) else saved:
            self._visit(item)
        if isinstance(saved, dict):
            for key in saved:
                if isinstance(key, Tensor):
                    self._visit(key)

    def _object(self, value: Any) -> None:
        kind, attributes = type(value), value.__dict__
        put_back = _attributes_back(value)

        def undo() -> None:
            if type(value) is not kind:
                value.__class__ = kind
            put_back()

        self._undo.append(undo)
        for name, item in list(attributes.items()):
            if name not in ("trainer", "_trainer", "_fabric"):  # a framework's whole world hangs there
                self._visit(item)

    def _function(self, function: types.FunctionType) -> None:
        for cell in function.__closure__ or ():
            try:
                self._visit(cell.cell_contents)
            except ValueError:  # an empty cell
                continue
        code_names = set(function.__code__.co_names)
        for name, item in list(function.__globals__.items()):
            plain = isinstance(item, (nn.Module, torch.optim.Optimizer, Tensor, dict, list))
            if name in code_names and (plain or _is_stateful(item)):
                self._visit(item)

    def _numpy(self, value: Any) -> None:
        if hasattr(value, "bit_generator"):
            state = value.bit_generator.state

            def undo() -> None:
                value.bit_generator.state = state

            self._undo.append(undo)
        elif hasattr(value, "get_state") and hasattr(value, "set_state"):
            legacy = value.get_state()
            self._undo.append(lambda: value.set_state(legacy))
        elif hasattr(value, "flags") and getattr(value.flags, "writeable", False):
            copy = value.copy()

            def put_back() -> None:
                value[...] = copy

            self._undo.append(put_back)


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """What a tensor was besides its values: `data` is the memory it showed."""

    tensor: Tensor
    data: Tensor
    requires_grad: bool
    leaf: bool
    grad: Tensor | None

    def point_back(self) -> None:
        tensor, data = self.tensor, self.data
        if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape or tensor.dtype != data.dtype:
            tensor.data = data
        if self.leaf and tensor.is_leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad


def _attributes_back(value: Any) -> Callable[[], None]:
    attributes = value.__dict__
    saved = dict(attributes)

    def undo() -> None:
        for name in [n for n in attributes if n not in saved]:
            del attributes[name]
        for name, item in saved.items():
            if name not in attributes or attributes[name] is not item:
                attributes[name] = item

    return undo


def is_wrapper(tensor: Tensor) -> bool:
    """Whether a tensor only stands for others, as a DTensor does."""
    return type(tensor) not in (Tensor, nn.Parameter, nn.Buffer) and hasattr(tensor, "__tensor_flatten__")


class RandomState:
    """The global random states: torch (CPU and every accelerator in use), NumPy and Python; and torch's global switches."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._cuda = (
            torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
        )
        self._mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        self._python = random.getstate()
        self._numpy = sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None
        self._dtype = torch.get_default_dtype()
        self._grad = torch.is_grad_enabled()

    def restore(self) -> None:
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        if self._mps is not None:
            torch.mps.set_rng_state(self._mps)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        if torch.get_default_dtype() != self._dtype:
            torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(self._grad)


def seed_everything(seed: int) -> None:
    """Seed torch on every device, Python, and NumPy if it is there."""
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        # Without one, torch.manual_seed still writes down a stack trace for each kind: 1 ms, hundreds of times in a run.
        torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


@functools.cache
def _has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


def _copy_if_changed(tensor: Tensor, value: Tensor) -> None:
    try:
        same = torch.equal(tensor.detach(), value)
    except (RuntimeError, NotImplementedError):  # sparse and quantised layouts cannot be compared
        same = False
    if same:
        return
    try:
        tensor.detach().copy_(value)
    except RuntimeError:  # an expanded view cannot be written to
        tensor.data = value.clone()


def _is_stateful(value: Any) -> bool:
    if not hasattr(value, "__dict__") or isinstance(value, types.ModuleType):
        return False
    if type(value).__module__.startswith("nncheck."):
        return False  # a script's loop names what it may change itself
    if isinstance(value, (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)):
        return True
    if isinstance(value, (torch.utils.data.Sampler, torch.utils.data.DataLoader)):
        return False  # see `loader_roots`: a data set may be any size
    if "GradScaler" in type(value).__name__ or isinstance(value, torch.optim.lr_scheduler.ReduceLROnPlateau):
        return True
    module = sys.modules.get(type(value).__module__)
    file = getattr(module, "__file__", None)
    # Instances of the user's own classes are walked; those of libraries are not.
    return file is not None and not str(Path(file).resolve()).startswith(_LIBRARIES)


def loader_roots(loader: Any) -> list[Any]:
    """What a loader draws its order from: its generator and its samplers'. Never its data set."""
    found: list[Any] = []
    for owner in (loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
        for inner in (owner, getattr(owner, "sampler", None)):
            generator = getattr(inner, "generator", None)
            if isinstance(generator, torch.Generator):
                found.append(generator)
    return found


def _ignore(_: object) -> None:
    return None
