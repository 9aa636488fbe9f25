"""The classic optimizers raced on the user's own task: the same start, batches and random numbers for each, at a few rates.

A short race favours those that start fast: Adam and its kin. What it says is which rates work at all, and how far apart they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure, OutOfTime, TargetError
from nncheck.lab.held import eval_mode, level_if_possible
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import control_optimizer, named_optimizer, train, users_optimizer
from nncheck.verdict import Curve, Guide, Line, Table, Verdict, passed, skipped

STEPS = 100
# Batches that no one trains on, whose loss after the race is the score.
HELD = 2
# Lines in the picture: more cannot be told apart.
SHOWN = 8
SMOOTH = 0.9
OWN = "your own"

Make = Callable[[list[Tensor], float], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """An optimizer and the rates it is tried at, the usual one first. then: who takes over half way, at how many times the rate."""

    name: str
    make: Make
    rates: tuple[float, ...]
    then: tuple[Make, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One run: the loss before each update, and the mean loss on the samples kept back after it (NaN if it diverged)."""

    name: str
    rate: float
    label: str
    losses: tuple[float, ...]
    end: float


@dataclass(frozen=True, kw_only=True)
class Race:
    """Every run that was made, in the order made.

    kept_back: whether the score is on samples nobody trained on. start: the score before. finished: whether all were run; if
    not, the time was up, or the user had enough (interrupted).
    """

    steps: int
    kept_back: bool
    samples: int
    start: float
    lanes: tuple[Lane, ...]
    finished: bool
    interrupted: bool = False

    def best(self) -> list[Lane]:
        """The best run of each optimizer, the best one first; what diverged is last."""
        found: dict[str, Lane] = {}
        for lane in self.lanes:
            if lane.name not in found or _rank(lane) < _rank(found[lane.name]):
                found[lane.name] = lane
        return sorted(found.values(), key=_rank)


def _rank(lane: Lane) -> float:
    return lane.end if math.isfinite(lane.end) else math.inf


def _momentum(p: list[Tensor], rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(p, lr=rate, momentum=0.9)


def _adam(p: list[Tensor], rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(p, lr=rate)


# The rates are the default or the one of the paper, and ten times less and more.
ENTRANTS = (
    Entrant(name="SGD", make=lambda p, rate: torch.optim.SGD(p, lr=rate), rates=(0.1, 0.01, 1.0)),
    Entrant(name="momentum", make=_momentum, rates=(0.01, 0.001, 0.1)),
    Entrant(
        name="Nesterov",
        make=lambda p, rate: torch.optim.SGD(p, lr=rate, momentum=0.9, nesterov=True),
        rates=(0.01, 0.001, 0.1),
    ),
    Entrant(name="AdaGrad", make=lambda p, rate: torch.optim.Adagrad(p, lr=rate), rates=(0.01, 0.001, 0.1)),
    Entrant(name="RMSprop", make=lambda p, rate: torch.optim.RMSprop(p, lr=rate), rates=(1e-3, 1e-4, 1e-2)),
    Entrant(name="Adadelta", make=lambda p, rate: torch.optim.Adadelta(p, lr=rate), rates=(1.0, 0.1, 10.0)),
    Entrant(name="Adam", make=_adam, rates=(1e-3, 1e-4, 1e-2)),
    Entrant(name="NAdam", make=lambda p, rate: torch.optim.NAdam(p, lr=rate), rates=(1e-3, 1e-4, 1e-2)),
    Entrant(name="AMSGrad", make=lambda p, rate: torch.optim.Adam(p, lr=rate, amsgrad=True), rates=(1e-3, 1e-4, 1e-2)),
    # SGD with momentum takes over at ten times Adam's rate, as in SWATS (Keskar & Socher 2017), which estimates it.
    Entrant(name="Adam, then SGD", make=_adam, rates=(1e-3, 1e-4, 1e-2), then=(_momentum, 10.0)),
)


def run_race(sandbox: Sandbox, *, steps: int, told: Callable[[Lane], None] = lambda lane: None) -> Race:
    """The user's optimizer first, then everyone at the usual rate, then at the others; ends early when the time is up."""
    taken = sandbox.feed.take(steps + HELD)
    kept_back = len(taken) > 2 * HELD
    held = tuple(taken[-HELD:]) if kept_back else tuple(taken[:HELD])
    trained = taken[: len(taken) - HELD] if kept_back else taken
    order = [trained[i % len(trained)] for i in range(steps)]
    lanes: list[Lane] = []
    finished = interrupted = False
    start, samples = math.nan, 0
    try:
        with sandbox.trial(), eval_mode(sandbox.model):
            before = level_if_possible(sandbox, held)
        if before is None:
            raise CannotMeasure("the model gives no loss in eval mode to score it by")
        start, samples = before.mean, len(before.losses)
        for entrant, rate in _heats():
            lanes.append(_lane(sandbox, order, held, entrant, rate))
            told(lanes[-1])
        finished = True
    except (OutOfTime, KeyboardInterrupt) as stop:
        interrupted = isinstance(stop, KeyboardInterrupt)
        sandbox.put_back()
    return Race(
        steps=steps, kept_back=kept_back, samples=samples, start=start, lanes=tuple(lanes), finished=finished,
        interrupted=interrupted,
    )  # fmt: skip


def _heats() -> Iterator[tuple[Entrant | None, float]]:
    yield None, 0.0
    for turn in range(max(len(entrant.rates) for entrant in ENTRANTS)):
        for entrant in ENTRANTS:
            if turn < len(entrant.rates):
                yield entrant, entrant.rates[turn]


def _lane(sandbox: Sandbox, order: list[Any], held: tuple[Any, ...], entrant: Entrant | None, rate: float) -> Lane:
    losses: list[float] = []
    with sandbox.trial():
        ramp = 0
        if entrant is None:
            optimizer, ramp = users_optimizer(sandbox)
            rate = max((float(group["lr"]) for group in optimizer.param_groups if "lr" in group), default=math.nan)
            name, label = OWN, f"{OWN}, {named_optimizer(optimizer)}"
            legs = [(optimizer, order)]
        else:
            everything = control_optimizer(sandbox, rate).param_groups[0]["params"]
            name, label = entrant.name, f"{entrant.name}, {rate:g}"
            legs = [(entrant.make(everything, rate), order)]
            if entrant.then is not None:
                made, times = entrant.then
                half = len(order) // 2
                legs = [(legs[0][0], order[:half]), (made(everything, times * rate), order[half:])]
        try:
            for optimizer, part in legs:
                for update in train(sandbox, part, optimizer, ramp=ramp, begin=len(losses)):
                    losses.append(update.loss)
                if losses and not math.isfinite(losses[-1]):
                    break
        except TargetError:
            if entrant is None or not losses:
                raise
            losses.append(math.nan)  # a loss that refuses what a diverged network gives it
        with eval_mode(sandbox.model):
            after = level_if_possible(sandbox, held) if math.isfinite(losses[-1]) else None
    return Lane(name=name, rate=rate, label=label, losses=tuple(losses), end=math.nan if after is None else after.mean)


def judge(race: Race) -> Verdict:
    """The race as a table and a picture."""
    ranked = race.best()
    if not ranked or not math.isfinite(ranked[0].end):
        why = (
            "nobody got anywhere: every run diverged"
            if race.finished
            else "the time was up before the first run was done"
        )
        return skipped(why)
    own = next((lane for lane in ranked if lane.name == OWN), None)
    first = ranked[0]
    where = "kept back" if race.kept_back else "trained on"
    measured = (
        f"after {race.steps} updates {first.label} has the lowest loss on {race.samples} samples {where}: {first.end:.4g}, "
        f"from {race.start:.4g}"
    )
    if own is not None and own is not first:
        place = ranked.index(own) + 1
        measured += f"; {own.label} is at {own.end:.4g}, place {place} of {len(ranked)}"
    if not race.finished:
        measured += f"; the time was up after {len(race.lanes)} of {1 + sum(len(e.rates) for e in ENTRANTS)} runs"
    rows = []
    for number, lane in enumerate(ranked, 1):
        tried = sum(one.name == lane.name for one in race.lanes)
        end = f"{lane.end:.4g}" if math.isfinite(lane.end) else "diverged"
        rows.append((str(number), lane.name, f"{lane.rate:g}", end, f"{_late(lane):.4g}", str(tried)))
    table = Table(
        title=f"Best rate of each after {race.steps} updates, by the loss on {race.samples} samples {where}",
        columns=("place", "optimizer", "rate", "loss", "training loss", "rates tried"),
        rows=tuple(rows),
    )
    shown = [lane for lane in ranked if math.isfinite(lane.end)][:SHOWN]
    if own is not None and own not in shown and math.isfinite(own.end):
        shown[-1] = own
    lines = tuple(
        Line(label=lane.label, x=tuple(float(i) for i in range(len(lane.losses))), y=_smooth(lane.losses))
        for lane in shown
    )
    curve = Curve(
        title=f"Training loss, smoothed, of the best {len(shown)}", x_label="update", y_label="loss", lines=lines,
        guides=(Guide(label="start", value=race.start),), log_y=all(y > 0 for line in lines for y in line.y) and race.start > 0,
    )  # fmt: skip
    numbers = {f"{lane.name} at {lane.rate:g}": lane.end for lane in race.lanes}
    return passed(measured, exhibits=(table, curve), numbers={"start": race.start, **numbers})


def _late(lane: Lane) -> float:
    last = lane.losses[-10:]
    return sum(last) / max(1, len(last))


def _smooth(losses: tuple[float, ...]) -> tuple[float, ...]:
    found, mean = [], 0.0
    for number, loss in enumerate(losses, 1):
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        found.append(mean / (1 - SMOOTH**number))
    return tuple(found)
