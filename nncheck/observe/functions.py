"""The user's own `torch.autograd.Function`s: recorded as the model calls them, then checked one by one."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.errors import CannotMeasure
from nncheck.lab.snapshot import seed_everything
from nncheck.observe.source import calling_place, is_users, line_of, place_at
from nncheck.verdict import Place

# Calls kept for each function and form of its arguments, and in all: a network of 1,000 layers costs no more than one of 10.
KEPT_EACH, KEPT_ALL = 2, 16
DIRECTIONS = 4
STEPS = (1e-5, 1e-6, 1e-4)
# Good enough to stop looking: float64 at these steps gives 1e-12 to 1e-8 on smooth functions.
GOOD = 1e-7
# Fewer of the outputs than this move with a small step: the forward is a staircase (round, sign, a spike), and its backward
# can only be a stand-in, chosen on purpose.
FLAT = 0.01
# The forward is also tried beside the recorded point, off the corners that stored zeros and integers sit on.
JITTER = 1e-3
DECLARED = re.compile(
    r"straight[\s_-]*through|surrogate|\bSTE\b|STE(?=[A-Z_]|$)|pass[\s_-]*through|gradient[\s_-]*(reversal|clip|scal)|reverse[ds]?[\s_-]*grad"
    r"|grad(ient)?[\s_-]*revers|lower[\s_-]*bound|approximat",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class ArgumentError:
    """The gradient of one argument of a function against finite differences.

    error: the smallest relative error over step widths and points; NaN if none could be measured.
    factor: what the gradient would have to be multiplied by, where it points the right way or exactly the opposite; else NaN.
    """

    argument: str
    error: float
    factor: float
    shape: str


@dataclass(frozen=True, kw_only=True)
class FunctionErrors:
    """One of the user's functions.

    identity: its forward gives back an input, so its backward is all it is for. flat: its forward is a staircase.
    declared: words in its source by which its author says that the backward is another gradient on purpose.
    place: the line of its backward. used: where it is called.
    """

    name: str
    calls: int
    arguments: tuple[ArgumentError, ...]
    identity: bool
    flat: bool
    declared: str
    place: Place
    used: Place


@dataclass(kw_only=True)
class Recorded:
    """One call, its tensors copied."""

    function: Any
    args: tuple[Any, ...]
    names: tuple[str, ...]
    needs: tuple[bool, ...]
    used: Place


@dataclass(kw_only=True)
class Recording:
    """Calls kept, and how many there were of each function.

    foreign: functions of libraries other than torch that were called; they are not judged, but may be surrogates.
    inside: a forward is running now, where gradients are off for everybody.
    """

    kept: list[Recorded] = field(default_factory=list)
    calls: dict[Any, int] = field(default_factory=dict)
    foreign: dict[str, None] = field(default_factory=dict)
    inside: int = 0


@contextmanager
def recording(model: nn.Module) -> Iterator[Recording]:
    """Inside: calls of functions written by the user are recorded. The classes get their forward back."""
    record = Recording()
    names = {id(module): name for name, module in model.named_modules()}
    parameters = {id(p): name for name, p in model.named_parameters()}
    patched = []
    try:
        for function, own in _functions(torch.autograd.Function):
            original = vars(function)["forward"]
            patched.append((function, original))
            told = _recorder(function, original, record, names, parameters) if own else _namer(original, record)
            function.forward = staticmethod(told)
        yield record
    finally:
        for function, original in patched:
            function.forward = original


def _functions(root: Any) -> Iterator[tuple[Any, bool]]:
    """Functions that are not torch's own, and whether the user wrote them."""
    for function in root.__subclasses__():
        forward = vars(function).get("forward")
        code = getattr(inspect.unwrap(getattr(forward, "__func__", forward)), "__code__", None) if forward else None
        if code is not None and function.__module__.partition(".")[0] != "torch":
            yield function, is_users(code.co_filename)
        yield from _functions(function)


def _namer(original: Any, record: Recording) -> Callable[..., Any]:
    call = getattr(original, "__func__", original)

    def forward(*args: Any, **kwargs: Any) -> Any:
        record.foreign.setdefault(getattr(call, "__qualname__", "a library's function").removesuffix(".forward"))
        return call(*args, **kwargs)

    return forward


def _recorder(
    function: Any, original: Any, record: Recording, names: dict[int, str], parameters: dict[int, str]
) -> Callable[..., Any]:
    call = getattr(original, "__func__", original)
    with_context = function.setup_context is torch.autograd.Function.setup_context

    def forward(*args: Any, **kwargs: Any) -> Any:
        record.inside += 2  # one for the copies, one for the call
        kind = type(args[0])._forward_cls if with_context else function
        given = args[1:] if with_context else args
        needs = tuple(isinstance(a, Tensor) and a.requires_grad and a.is_floating_point() for a in given)
        record.calls[kind] = record.calls.get(kind, 0) + 1
        form = (kind, needs, tuple(a.ndim if isinstance(a, Tensor) else -1 for a in given))
        alike = sum(
            1
            for r in record.kept
            if (r.function, r.needs, tuple(a.ndim if isinstance(a, Tensor) else -1 for a in r.args)) == form
        )
        if any(needs) and not kwargs and alike < KEPT_EACH and len(record.kept) < KEPT_ALL:
            copies = tuple(a.detach().clone() if isinstance(a, Tensor) else a for a in given)
            described = tuple(
                f"argument {i + 1}" + (f" ({parameters[id(a)]})" if id(a) in parameters else "")
                for i, a in enumerate(given)
            )
            record.kept.append(
                Recorded(function=kind, args=copies, names=described, needs=needs, used=calling_place(_layer(names)))
            )
        record.inside -= 1
        try:
            return call(*args, **kwargs)
        finally:
            record.inside -= 1

    return forward


def _layer(names: dict[int, str]) -> str:
    """The module whose forward is on the stack."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_locals.get("self") if frame.f_code.co_name == "forward" else None
        if id(module) in names:
            return names[id(module)] or type(module).__name__
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "the loss"


def check_functions(record: Recording, *, seed: int) -> tuple[FunctionErrors, ...]:
    """Finite differences of every recorded call. Call it with the float64 mode active."""
    found: dict[Any, list[FunctionErrors]] = {}
    for call in record.kept:
        errors = _check(call, record.calls[call.function], seed=seed)
        if errors is not None:
            found.setdefault(call.function, []).append(errors)
    return tuple(max(each, key=_worst) for each in found.values())


def _worst(errors: FunctionErrors) -> float:
    return max((a.error for a in errors.arguments if not math.isnan(a.error)), default=-1.0)


def _check(call: Recorded, calls: int, *, seed: int) -> FunctionErrors | None:
    best: dict[int, ArgumentError] = {}
    # At both points, or it is the values: x + bias gives back x while the bias is zero, x * gate is flat while the gate is.
    identities: list[bool] = []
    flats: dict[int, list[bool]] = {}
    generator = torch.Generator().manual_seed(seed)
    for jitter in (0.0, JITTER):
        args = [_beside(a, jitter, generator) if n else a for a, n in zip(call.args, call.needs, strict=True)]
        try:
            point = _Point(call.function, args, call.needs, seed)
            identities.append(point.identity)
            for k in point.inputs:
                measured, is_flat = point.compare(k, generator)
                flats.setdefault(k, []).append(is_flat)
                if measured is not None and (k not in best or not measured.error >= best[k].error):
                    best[k] = ArgumentError(
                        argument=call.names[k],
                        error=measured.error,
                        factor=measured.factor,
                        shape=str(list(call.args[k].shape)),
                    )
        except Exception:  # noqa: BLE001  # the user's code, at a point it was not made for: nothing is said of it then
            continue
    if not best:
        return None
    text = _source(call.function)
    declared = DECLARED.search(text)
    return FunctionErrors(
        name=call.function.__name__,
        calls=calls,
        arguments=tuple(best[k] for k in sorted(best)),
        identity=all(identities),
        flat=any(all(seen) for seen in flats.values()),
        declared=declared.group(0) if declared else "",
        place=_backward_place(call.function),
        used=call.used,
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    error: float
    factor: float


class _Point:
    """A function at one point: its outputs under random weights, and the gradient its backward gives."""

    def __init__(self, function: Any, args: list[Any], needs: tuple[bool, ...], seed: int) -> None:
        self._function, self._args, self._seed = function, args, seed
        self.inputs = [k for k, needed in enumerate(needs) if needed]
        leaves = {k: args[k].detach().clone().requires_grad_() for k in self.inputs}
        with torch.enable_grad():
            outputs = self._outputs({k: leaf.clone() for k, leaf in leaves.items()})
            self._weights = [torch.randn_like(o) for o in outputs]
            again = self._outputs({})
            if any(not torch.equal(a, b) for a, b in zip(outputs, again, strict=True)):
                raise CannotMeasure("the function gives something else the second time")
            total = sum(((o * w).sum() for o, w in zip(outputs, self._weights, strict=True)), torch.zeros(()))
            given = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        self.gradients = dict(zip(self.inputs, given, strict=True))
        tensors = [a for a in args if isinstance(a, Tensor)]
        self.identity = any(o.shape == a.shape and torch.allclose(o.detach(), a) for o in outputs for a in tensors)

    def _outputs(self, changed: dict[int, Tensor]) -> list[Tensor]:
        seed_everything(self._seed)
        given = [changed.get(k, a.clone() if isinstance(a, Tensor) else a) for k, a in enumerate(self._args)]
        result = self._function.apply(*given)
        results = result if isinstance(result, (tuple, list)) else [result]
        return [r for r in results if isinstance(r, Tensor) and r.is_floating_point()]

    def compare(self, k: int, generator: torch.Generator) -> tuple[_Measured | None, bool]:
        """The gradient of input k against centred differences along random directions; and whether the forward is flat there."""
        gradient, at = self.gradients[k], self._args[k]
        if gradient is None:  # the author says there is none
            return None, False
        if gradient.shape != at.shape or not bool(torch.isfinite(gradient).all()):
            return None, False
        scale = float(at.square().mean().sqrt()) if at.numel() else 1.0
        scale = scale if scale > 1e-3 else 1.0
        directions = [
            torch.randn(at.shape, generator=generator, dtype=torch.float64).to(at.device) for _ in range(DIRECTIONS)
        ]
        claimed = torch.stack([(gradient * d).sum() for d in directions])
        best: _Measured | None = None
        flat = False
        with torch.no_grad():
            for step in STEPS:
                h = step * scale
                seen = []
                for d in directions:
                    up = self._outputs({k: at + h * d})
                    down = self._outputs({k: at - h * d})
                    gaps = [a - b for a, b in zip(up, down, strict=True)]
                    moved = sum(float((g != 0).sum()) for g in gaps) / max(1, sum(g.numel() for g in gaps))
                    flat |= moved < FLAT
                    seen.append(sum(((g * w).sum() for g, w in zip(gaps, self._weights, strict=True)), torch.zeros(())))
                measured = _relate(torch.stack(seen) / (2 * h), claimed)
                if measured is not None and (best is None or measured.error < best.error):
                    best = measured
                if best is not None and best.error < GOOD:
                    break
        return best, flat


def _relate(true: Tensor, claimed: Tensor) -> _Measured | None:
    size = float(torch.maximum(true.norm(), claimed.norm()))
    if not math.isfinite(size):
        return None
    if size < 1e-10:
        return _Measured(error=0.0, factor=1.0)
    factor = float((true @ claimed) / (claimed @ claimed).clamp_min(1e-300))
    proportional = float((true - factor * claimed).norm()) < 1e-4 * size
    return _Measured(error=float((true - claimed).norm()) / size, factor=factor if proportional else math.nan)


def _beside(tensor: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    wide = tensor.double()
    if not jitter:
        return wide
    scale = float(wide.square().mean().sqrt()) or 1.0
    noise = torch.randn(wide.shape, generator=generator, dtype=torch.float64).to(wide.device)
    return wide + jitter * scale * noise


def _source(function: Any) -> str:
    try:
        return f"{function.__name__}\n{inspect.getsource(function)}"
    except (OSError, TypeError):
        return str(function.__name__)


def _backward_place(function: Any) -> Place:
    backward = inspect.unwrap(function.backward)
    code = getattr(backward, "__code__", None)
    name = f"{function.__name__}.backward"
    if code is None:
        return Place(name=name)
    first = code.co_firstlineno  # that of the decorator
    lines = range(first, first + 5)
    line = next((n for n in lines if (line_of(code.co_filename, n) or "").startswith("def ")), first)
    return place_at(name, code.co_filename, line)
