"""When a script steps its schedules: how often, where, and whether its optimizer steps in between."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from nncheck.capture.witnesses.step_lines import Stack, lines_that_may_step, stack
from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab.interception import Patches, kinds_of
from nncheck.observe.source import calling_place
from nncheck.verdict import Place

# A line that steps an optimizer itself says so; one that hands the loop to a library (`trainer.fit(...)`) does not.
_STEPS = re.compile(r"step\b")


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One schedule of the optimizer that steps first.

    made_at: where it is made. times: how often it was stepped by the script, in the epochs watched; within: how often of that
    before an epoch was over. places: the lines that did. early: those that did before the optimizer's first step.
    again: how often one line stepped it after another line had, with no step of the optimizer in between; by: those two lines.
    moved: the rate changed while it was not stepped: by hand.
    """

    kind: str
    made_at: Place | None
    times: int
    within: int
    places: tuple[Place, ...]
    early: tuple[Place, ...]
    again: int
    by: tuple[Place, ...]
    moved: bool


@dataclass(frozen=True, kw_only=True)
class SchedulesSeen:
    """What became of an optimizer's schedules in so many of its steps.

    over: epochs that ended, those cut short included; batches: that the training loader gave; has_loader: whether there is one.
    own_loop: the user's own line steps the optimizer. waiting: lines of the user's files that may step a schedule and were not
    reached; behind: those that come after the loop over epochs.
    """

    schedules: tuple[Stepped, ...]
    steps: int
    over: int
    batches: int
    has_loader: bool
    own_loop: bool
    waiting: tuple[Place, ...]
    behind: tuple[Place, ...]


@dataclass(kw_only=True)
class _Kept:
    schedule: Any
    early: tuple[Place, ...]
    times: int = 0
    within: int = 0
    places: dict[tuple[str | None, int | None], Place] = field(default_factory=dict)
    since: Place | None = None
    again: Counter[tuple[Place, Place]] = field(default_factory=Counter)
    moved: bool = False


class Schedules(Witness):
    """Counts the steps that the script itself asks of each schedule; those inside of another schedule's are its affair."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._kept = [
            _Kept(schedule=s, early=tuple(place for other, place in course.early if other is s))
            for s in course.schedulers
        ]
        self._depth = 0
        self._inside = True
        self._over = 0
        self._batches = 1
        self._own = False
        self._stack: Stack = ()
        self._reached: set[tuple[str | None, int | None]] = set()
        self._rates = _rates(course.optimizer)

    def begin(self) -> None:
        patches = Patches()
        for kind in {*kinds_of(LRScheduler), *kinds_of(ReduceLROnPlateau)}:
            if "step" in vars(kind):
                patches.put(kind, "step", self._telling(vars(kind)["step"]))

    def loader_begun(self, loader: Any) -> None:
        if loader is self.course.loader:
            self._inside = True

    def loader_over(self, loader: Any) -> None:
        if loader is self.course.loader:
            self._inside = False
            self._over += 1

    def batch(self, loader: Any, batch: Any) -> None:
        self._batches += loader is self.course.loader

    def step(self, optimizer: Any) -> None:
        if optimizer is self.course.optimizer:
            rates = _rates(optimizer)
            for kept in self._kept:
                kept.moved |= not kept.times and rates != self._rates
            self._rates = rates

    def stepped(self, optimizer: Any) -> None:
        if optimizer is not self.course.optimizer:
            return
        place = calling_place("step")
        self._reached.add((place.file, place.line))
        self._own = self._own or _STEPS.search(place.source or "") is not None
        self._stack = self._stack or stack()
        for kept in self._kept:
            kept.since = None

    def evidence(self) -> SchedulesSeen:
        waiting: tuple[Place, ...] = ()
        behind: tuple[Place, ...] = ()
        if any(not kept.times for kept in self._kept):
            waiting, behind = lines_that_may_step(self._stack, self._reached, self.course.not_its_own)
        return SchedulesSeen(
            schedules=tuple(
                Stepped(
                    kind=type(kept.schedule).__name__,
                    made_at=self.course.made.get(id(kept.schedule)),
                    times=kept.times,
                    within=kept.within,
                    places=tuple(kept.places.values()),
                    early=kept.early,
                    again=max(kept.again.values(), default=0),
                    by=next((pair for pair, _ in kept.again.most_common(1)), ()),
                    moved=kept.moved,
                )
                for kept in self._kept
            ),
            steps=self.course.steps,
            over=self._over,
            batches=self._batches,
            has_loader=self.course.loader is not None,
            own_loop=self._own,
            waiting=waiting,
            behind=behind,
        )

    def _telling(self, step: Any) -> Any:
        def told(schedule: Any, *args: Any, **kwargs: Any) -> Any:
            kept = next((k for k in self._kept if k.schedule is schedule), None)
            if kept is not None and not self._depth:
                self._note(kept)
            elif not self._depth:  # another optimizer's: its line has been reached as well
                place = calling_place("step")
                self._reached.add((place.file, place.line))
            self._depth += 1
            try:
                return step(schedule, *args, **kwargs)
            finally:
                self._depth -= 1

        return told

    def _note(self, kept: _Kept) -> None:
        place = calling_place(f"{type(kept.schedule).__name__}.step")
        kept.times += 1
        kept.within += self._inside
        kept.places.setdefault((place.file, place.line), place)
        self._reached.add((place.file, place.line))
        if kept.since is not None and (kept.since.file, kept.since.line) != (place.file, place.line):
            kept.again[kept.since, place] += 1
        kept.since = place


def _rates(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]
