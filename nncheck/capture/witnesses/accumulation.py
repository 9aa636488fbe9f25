"""What a script's optimizer steps are made from: the backward passes since the last one, and whether gradients add up in them."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nncheck.capture.witnesses.step_lines import Stack, stack
from nncheck.capture.witnesses.variables import tree_of
from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab.interception import CLIPS, Patches, holders_of
from nncheck.losses.call import KINDS
from nncheck.observe.source import calling_place, place_at
from nncheck.verdict import Place

# So many steps tell a habit.
MOST = 16


@dataclass(frozen=True, kw_only=True)
class Round:
    """One step of the script's first optimizer, and the backward passes since the last one.

    backwards: how many there were; alike: all of them called from the same lines, with the same weights, with no other optimizer's
    step between them. cleared: how many found no gradient in what the optimizer trains. means: of how many, the number gone back
    from was the value of the one mean loss that was computed for it. kept: the norm of one gradient at the step, before any
    clipping, over its norm after the last backward pass.
    """

    backwards: int
    alike: bool
    cleared: int
    means: int
    kept: float


@dataclass(frozen=True, kw_only=True)
class RoundsSeen:
    """The rounds in order, the first and unfinished one left out. backward, step: where they were called last.

    loops: the heads of the loops around that backward pass which do not go round the step.
    """

    rounds: tuple[Round, ...]
    backward: Place | None
    step: Place | None
    loops: tuple[str, ...]


@dataclass
class _Open:
    stacks: set[Stack] = field(default_factory=set)
    weights: set[tuple[int, float]] = field(default_factory=set)
    backwards: int = 0
    cleared: int = 0
    means: int = 0
    others: bool = False
    norm: float = 0.0
    clipped: float | None = None


class Rounds(Witness):
    """Looks at the gradients of the first optimizer before each backward pass, and at one of them after it and at the step."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        held = [p for group in course.optimizer.param_groups for p in group["params"]]
        self._held: list[Tensor] = [p for p in held if p.requires_grad]
        self._one = max(self._held, key=lambda p: p.numel(), default=None)
        self._open: _Open | None = None
        self._inside = False
        self._losses: list[float | None] = []
        self._rounds: list[Round] = []
        self._last: Stack = ()
        self._stepped: Stack = ()
        self._backward_at: Place | None = None
        self._step_at: Place | None = None

    def begin(self) -> None:
        mode: Any = _Losses(self._losses)
        mode.__enter__()  # for as long as the copy lives
        patches = Patches()
        for name in CLIPS:
            clip = getattr(torch.nn.utils, name)
            for module, attribute in holders_of(clip):
                patches.put(module, attribute, self._clipping(clip))
        if self._one is not None:
            self._one.register_post_accumulate_grad_hook(self._accumulated)

    def backward(self, loss: Tensor) -> None:
        losses, self._losses[:] = list(self._losses), []
        now = self._open
        if now is None or self._inside or self._one is None or len(self._rounds) >= MOST:
            return
        self._last, self._backward_at = stack(), calling_place("backward")
        now.stacks.add(self._last)
        now.weights.add((self._one._version, float(self._one.detach().double().sum())))
        now.backwards += 1
        now.cleared += not any(p.grad is not None and bool(p.grad.any()) for p in self._held)
        now.means += len(losses) == 1 and losses[0] is not None and losses[0] == float(loss.detach().sum())

    def step(self, optimizer: Any) -> None:
        now = self._open
        self._inside = True
        if optimizer is not self.course.optimizer:
            if now is not None:
                now.others = now.others or now.backwards > 0
            return
        if now is not None and now.backwards and self._one is not None and len(self._rounds) < MOST:
            self._stepped, self._step_at = stack(), calling_place("step")
            at_step = _norm(self._one) if now.clipped is None else now.clipped
            self._rounds.append(
                Round(
                    backwards=now.backwards,
                    alike=len(now.stacks) == 1 and len(now.weights) == 1 and not now.others,
                    cleared=now.cleared,
                    means=now.means,
                    kept=at_step / now.norm if now.norm > 0 else 0.0,
                )
            )

    def stepped(self, optimizer: Any) -> None:
        self._inside = False
        if optimizer is self.course.optimizer:
            self._open = _Open()

    def evidence(self) -> RoundsSeen:
        return RoundsSeen(
            rounds=tuple(self._rounds),
            backward=self._backward_at,
            step=self._step_at,
            loops=tuple(_loops_between(self._last, self._stepped)),
        )

    def _accumulated(self, parameter: Tensor) -> None:
        if self._open is not None:
            self._open.norm, self._open.clipped = _norm(parameter), None

    def _clipping(self, clip: Any) -> Any:
        def clipping(*args: Any, **kwargs: Any) -> Any:
            if self._open is not None and self._open.clipped is None and self._one is not None:
                self._open.clipped = _norm(self._one)
            return clip(*args, **kwargs)

        return clipping


class _Losses(TorchFunctionMode):
    """Collects the value of each loss function of torch's that is called; None for one that is no mean."""

    def __init__(self, values: list[float | None]) -> None:
        super().__init__()
        self._values = values

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if getattr(function, "__name__", "") in _NAMES and isinstance(result, Tensor) and result.requires_grad:
            mean = kwargs.get("reduction", "mean") == "mean" and result.numel() == 1
            self._values.append(float(result.detach()) if mean else None)
        return result


_NAMES = {function.__name__ for function in KINDS}


def _norm(parameter: Tensor) -> float:
    return 0.0 if parameter.grad is None else float(parameter.grad.detach().double().norm())


def _loops_between(backward: Stack, step: Stack) -> list[str]:
    """The heads of the loops that lines of the one stack stand in, and no line of the other."""
    found = []
    for file, line in backward:
        for node in ast.walk(tree_of(file)):
            if not isinstance(node, (ast.For, ast.While)) or not node.lineno < line <= (node.end_lineno or 0):
                continue
            if any(other == file and node.lineno <= at <= (node.end_lineno or 0) for other, at in step):
                continue
            found.append(place_at("loop", file, node.lineno).source or "")
    return found
