"""Hand-made evidence of a rehearsal, for the tables of the checks that read it."""

import dataclasses
import math
from typing import Any

from nncheck.lab.held import Level
from nncheck.lab.looks import Look, Wanted
from nncheck.lab.moves import Descent, Moves
from nncheck.losses.goal import Goal
from nncheck.probes.overfit import OverfitBatch, Run
from nncheck.probes.rehearsal import UPDATES, Levels, Rehearsal

LN10 = math.log(10)
GOAL = Goal(
    kind="cross-entropy", exact=True, value=0.05 * LN10, accuracy=1.0, floor=0.0, why="every prediction certain and right",
    constant=LN10, lowest=-0.02 * LN10, levels=(), offset=0.0,
)  # fmt: skip


def level(mean: float, spread: float = 0.1, samples: int = 64, wrong: float | None = 0.5) -> Level:
    """Losses that lie evenly around a mean."""
    losses = tuple(mean + spread * (2 * i / (samples - 1) - 1) for i in range(samples))
    return Level(losses=losses, apart=True, wrong=wrong)


def levels(before: float, after: float, *, spread: float = 0.1, lag: float = 0.02) -> Levels:
    """A set whose samples' losses move together but for `lag`; the same in both modes."""
    was, now = level(before, spread), level(after, spread + lag)
    return Levels(samples=64, before=was, after=now, eval_before=was, eval_after=now)


def falling(first: float, last: float, updates: int = UPDATES) -> tuple[float, ...]:
    return tuple(first + (last - first) * i / (updates - 1) for i in range(updates))


def moves(name: str = "0.weight", ratio: float | None = 1e-3, **changes: Any) -> Moves:
    row = Moves(
        name=name, shape=(64, 64), group=0, rate=1e-3, decay=0.0, ratio=ratio, gradient=0.1, start=4.0, end=4.1, embedding=False
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def descent(update: int, predicted: float, realised: float, again: float = 0.0) -> Descent:
    return Descent(update=update, loss=2.3, predicted=predicted, realised=realised, again=again)


def look(update: int, spread: float = 0.3, **changes: Any) -> Look:
    found = Look(
        update=update, loss=2.3, spread=spread, scale=0.3, change=None if update == 0 else 0.05,
        flips=None if update == 0 else 0.1, chosen=(32, 32), shown=(0.1,) * 8,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def rehearsal(**changes: Any) -> Rehearsal:
    """A sound one; every field can be given."""
    run = Rehearsal(
        optimizer="Adam(lr=0.001)", distinct=60, size=64, losses=falling(2.3, 1.0), gradients=(1.0,) * UPDATES,
        moves=(moves(), moves("2.weight")), descents=tuple(descent(i, 0.03, 0.03) for i in (0, 1, 10, 30, 50)),
        seen=levels(2.3, 1.0), fresh=levels(2.3, 1.1), validation=None, no_validation="",
        wanted=Wanted(kind="classes", samples=64, spread=0.3, labels=10), looks=tuple(look(i) for i in (0, 30, 40, 50, 60)),
        diverged=False, noise=None, checkpoint=None,
    )  # fmt: skip
    return dataclasses.replace(run, **changes)


def overfit(**changes: Any) -> OverfitBatch:
    """One batch learned by the user's optimizer."""
    losses = falling(2.3, 0.1)
    run = Run(
        optimizer="Adam(lr=0.001)", users=True, losses=losses, accuracy=1.0, share=0.04, fit=True, flat=False, dead=False,
        broken=False, update_ratio=1e-3, clip=None,
    )  # fmt: skip
    batch = OverfitBatch(
        samples=16, predictions=16, parameters=10_000, covered=1.0, start=2.3, goal=GOAL, turned=False, cut=False, runs=(run,),
        table=(), seen=None, loss_place=None,
    )  # fmt: skip
    return dataclasses.replace(batch, **changes)
