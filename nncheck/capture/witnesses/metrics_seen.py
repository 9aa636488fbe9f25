"""What a validation's own accuracy becomes when every prediction is right, and when every one is wrong."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nncheck.capture.calls import target_of
from nncheck.capture.witnesses.aside import can_go_aside, each_aside
from nncheck.capture.witnesses.metric_names import Printed, is_accuracy, number_of, values_in
from nncheck.capture.witnesses.perfect_outputs import Scoring, answer, same_values, scoring_of
from nncheck.capture.witnesses.variables import is_sum, line_that_binds, line_that_says, users_frames
from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab.batch import named_tensors
from nncheck.lab.interception import Patches
from nncheck.losses.call import KINDS
from nncheck.observe.source import is_users
from nncheck.verdict import Place

Way = Literal["own", "right", "wrong"]
WAYS: tuple[Way, ...] = ("own", "right", "wrong")

# A validation that takes longer is not run three times over.
SECONDS = 7.0
# Losses of training batches that must agree on which tensor holds the targets.
AGREE = 2


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number under a name: with the model's own outputs, with perfect ones, with all of them wrong.

    digits: after its point, where it was printed; -1 for a variable.
    """

    place: Place
    own: float
    right: float
    wrong: float
    digits: int


@dataclass(frozen=True, kw_only=True)
class MetricsSeen:
    """metrics: of the validation that could be run again; samples, batches: of it, and targets: values to be predicted."""

    metrics: tuple[Metric, ...]
    samples: int
    targets: int
    batches: int


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one copy saw; problem: why it says nothing."""

    values: dict[str, tuple[float, int, Place]]
    samples: int
    targets: int
    batches: int
    problem: str


class MetricWitness(Witness):
    """Learns from the training where the targets are, then lets copies of the process validate on outputs made from them."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._batch: Any = None
        self._output: Tensor | None = None
        self._scorings: list[Scoring | None] = []
        self._tried = False
        self._seen: MetricsSeen | None = None
        self._copy: _Copy | None = None

    def begin(self) -> None:
        mode: Any = _Losses(self)
        mode.__enter__()  # for as long as the copy lives

    @property
    def learning(self) -> bool:
        """Whether losses are still of interest."""
        return self._copy is not None or (self._output is not None and len(self._scorings) < AGREE)

    def batch(self, loader: Any, batch: Any) -> None:
        if self._copy is not None:
            self._copy.batch(loader, batch)
        elif loader is self.course.loader:
            self._batch, self._output = batch, None

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._copy is not None and next(module.parameters(), None) is not None:
            self._copy.call()

    def returned(self, module: nn.Module, output: Any) -> None:
        if next(module.parameters(), None) is None:
            return
        if self._copy is not None:
            self._copy.returned(output)
        elif self.course.training and self._batch is not None:
            outputs = [t for _, t in named_tensors(output) if t.is_floating_point() and t.dim()]
            self._output = max(outputs, key=lambda t: t.numel(), default=None)

    def scored(self, kind: str, scored: Tensor, target: Tensor) -> None:
        """A loss function is called."""
        if self._copy is not None:
            self._copy.scored(target)
        elif self._output is not None:
            self._scorings.append(scoring_of(kind, self._output, scored, target, self._batch))
            self._output = None

    def loader_begun(self, loader: Any) -> None:
        if self._copy is not None:
            self._copy.loader_begun(loader)
        # An average over several loaders would be of outputs of two kinds: only the first is tried, up to where the next begins.
        if self._copy is not None or loader is self.course.loader or self._tried:
            return
        self._tried = True
        known = set(self._scorings)
        if len(self._scorings) < AGREE or len(known) > 1 or None in known:
            return
        scoring = next(iter(known))
        assert scoring is not None
        if not can_go_aside(self.course):
            return

        def begin(way: Way) -> None:
            self._copy = _Copy(self.course, loader, scoring, way)

        told = each_aside(self.course, self, WAYS, begin, seconds=SECONDS)
        if told is None or not all(isinstance(one, Told) and not one.problem for one in told):
            return
        own, right, wrong = told
        metrics = tuple(
            Metric(
                place=right.values[key][2],
                own=own.values[key][0],
                right=right.values[key][0],
                wrong=wrong.values[key][0],
                digits=right.values[key][1],
            )
            for key in right.values
            if key in own.values and key in wrong.values
        )
        self._seen = MetricsSeen(metrics=metrics, samples=right.samples, targets=right.targets, batches=right.batches)

    def loader_over(self, loader: Any) -> None:
        if self._copy is not None:
            self._copy.loader_over(loader)

    def backward(self, loss: Tensor) -> None:
        if self._copy is not None:
            self._copy.end()

    def evidence(self) -> MetricsSeen | Told:
        if self._copy is not None:
            return self._copy.told()
        library = self.course.library
        seen: MetricsSeen | None = self._seen if self._seen is not None or library is None else library.scored()
        if seen is None:
            raise LookupError("no validation's targets are known")
        return seen


class _Copy:
    """A validation on outputs of one kind, to the next backward pass."""

    def __init__(self, course: Course, loader: Any, scoring: Scoring, way: Way) -> None:
        self._course, self._loader, self._scoring, self._way = course, loader, scoring, way
        self._target: Tensor | None = None
        self._answer: Any = None
        self._calls = self._samples = self._targets = self._batches = 0
        self._over = False
        self._problem = ""
        self._values: dict[str, tuple[float, int, Place]] = {}
        self._globals = {id(frame.f_globals): frame for frame in users_frames()}
        self._printed = Printed()
        self._put_answers_in()
        sys.stdout = self._printed
        sys.setprofile(self._returning)

    def _put_answers_in(self) -> None:
        real = nn.Module.__call__

        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:
            output = real(module, *args, **kwargs)
            if self._answer is None:
                return output
            instead, self._answer = self._answer, None
            return instead

        Patches().put(nn.Module, "__call__", __call__)

    def batch(self, loader: Any, batch: Any) -> None:
        self._target = None
        if loader is self._loader:
            self._calls = 0
            self._batches += 1
            self._target = dict(named_tensors(batch)).get(self._scoring.target)
            if self._target is None:
                self._problem = "a batch without targets"
            else:
                self._samples += self._target.shape[0] if self._target.dim() else 1
                self._targets += self._target.numel()

    def call(self) -> None:
        self._calls += 1
        if self._target is not None and self._calls > 1:
            self._problem = "the model is called several times a batch"

    def returned(self, output: Any) -> None:
        if self._target is None or self._problem:
            return
        parts = [t for _, t in named_tensors(output) if t.is_floating_point()]
        found = answer(parts[0], self._target, self._scoring, right=self._way == "right") if len(parts) == 1 else None
        if found is None or not isinstance(output, Tensor):
            self._problem = "the outputs cannot be made from the targets"
        elif self._way != "own":
            self._answer = found

    def loader_begun(self, loader: Any) -> None:
        if self._over:
            self.end()

    def scored(self, target: Tensor) -> None:
        """A loss compares the outputs with targets: the batch's own, if these outputs are to be right."""
        if self._target is not None and not same_values(target, self._target):
            self._problem = "the targets are changed before they are used"

    def loader_over(self, loader: Any) -> None:
        if loader is self._loader:
            if id(loader) in self._course.cut:
                self._problem = "the validation was cut short"
            self._over = True
            self._printed.note = True
            self._target = None

    def end(self) -> None:
        """The training goes on: what the validation left behind is there."""
        sys.setprofile(None)
        for frame in users_frames():
            self._take(frame, frame.f_code.co_name, frame.f_locals)
        self._course.watcher.finish()

    def told(self) -> Told:
        sys.setprofile(None)
        for frame in self._globals.values():
            self._take(frame, "<module>", frame.f_globals)
        library = self._course.library
        for name, value in ({} if library is None else library.metrics()).items():
            number = number_of(value)
            if library is not None and is_accuracy(name) and number is not None and math.isfinite(number):
                self._values[f"logged {name}"] = (number, -1, line_that_says(name, library.held))
        for key, found in self._printed.found():
            self._values[key] = found
        problem = self._problem or ("" if self._over and self._batches else "the validation was not gone through")
        return Told(
            values=self._values,
            samples=self._samples,
            targets=self._targets,
            batches=self._batches,
            problem=problem,
        )

    def _returning(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and self._over and is_users(frame.f_code.co_filename):
            self._take(frame, frame.f_code.co_name, frame.f_locals)

    def _take(self, frame: FrameType, function: str, names: dict[str, Any]) -> None:
        for path, value in values_in(names):
            if is_sum(path, frame):
                continue
            key = f"{function}: {path}"
            known = self._values.get(key)
            place = known[2] if known is not None else line_that_binds(path, frame)
            self._values[key] = (value, -1, place)


class _Losses(TorchFunctionMode):
    """Tells the witness of the loss functions that are called, wherever the names are imported to."""

    def __init__(self, witness: MetricWitness) -> None:
        super().__init__()
        self._witness = witness
        self._losses: dict[Any, Any] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._witness.learning:
            if not self._losses:
                # torch hands over what its module holds under the function's name: where that is patched, the patch.
                held = vars(torch.nn.functional)
                self._losses = {held.get(loss.__name__): loss for loss in KINDS} | {loss: loss for loss in KINDS}
            loss = self._losses.get(function)
            bound, target = (None, None) if loss is None else target_of(loss, args, kwargs)
            scored = None if bound is None else bound.arguments.get("input")
            if target is not None and isinstance(scored, Tensor):
                self._witness.scored(KINDS[loss], scored, target)
        return function(*args, **kwargs)
