"""The rehearsal once more with a known-good optimizer, where the user's leaves a doubt: what could have been learned in it.

The same batches in the same order with the same random numbers; only what the control is named after is changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

from nncheck.errors import TargetError
from nncheck.lab.held import Level, fall, level_if_possible
from nncheck.lab.looks import Look, Looker
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import control_optimizer, named_optimizer, train, users_optimizer
from nncheck.probes.overfit import CLIP
from nncheck.probes.rehearsal import Course, Rehearsal, course
from nncheck.registry import probe

# A fall of the loss on the samples trained on that is smaller than this many standard errors leaves a doubt. Of 238 sound set-ups
# 14 stay below it: hard or random labels, few samples. Their controls stay there too.
SURE = 3.0
# A fall, however certain, of less than this part of the loss: 60,000 updates for all of it. (Adam at 1e-6, where 1e-3 suits: 7e-4.)
CRAWL = 1e-3
# Adam's updates have 0.1 to 1 of the rate for each number. An eps of this size under which they have less outweighs the gradient.
EPS, SWALLOWED = 1e-4, 0.1
# Answers that differ between samples by less than this part of what they did, or could. In 236 sound set-ups the spread
# never ends below 0.32 of its largest (most grow).
COLLAPSED = 0.05
# Rates of the control: the one most networks learn at, and one for networks that break at it.
RATES = (1e-3, 3e-4)


Kind = Literal["adam", "clipped", "no decay", "small eps"]


@dataclass(frozen=True, kw_only=True)
class Control:
    """One run. kind: "adam" (a known-good optimizer); else the user's, with that one change.

    before, after: on the samples of `Rehearsal.seen`. first, last: the answers to the rehearsal's fixed batch; None where they
    cannot be looked at.
    """

    kind: Kind
    optimizer: str
    losses: tuple[float, ...]
    before: Level | None
    after: Level | None
    first: Look | None
    last: Look | None

    @property
    def fall(self) -> tuple[float, float]:
        """(mean fall of the loss, its t)."""
        return fall(self.before, self.after) if self.before and self.after else (math.nan, 0.0)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The runs made: none where the rehearsal leaves no doubt (`doubt` is empty then)."""

    doubt: str
    runs: tuple[Control, ...]

    def of(self, kind: str) -> Control | None:
        """The best run of this kind."""
        found = [run for run in self.runs if run.kind == kind and math.isfinite(run.fall[0])]
        return max(found, key=lambda run: run.fall[0], default=None)


def ahead(run: Rehearsal, control: Control) -> tuple[float, float]:
    """(how much lower the control ends than the rehearsal on the samples trained on, its t)."""
    return fall(run.seen.after, control.after) if run.seen.after and control.after else (math.nan, 0.0)


def doubt(run: Rehearsal) -> str:
    """Why a rehearsal is not enough by itself; empty if it is."""
    if run.diverged:
        return "" if run.closure else "diverged"
    before = run.seen.before
    if before is not None and (run.seen.fall[1] < SURE or run.seen.fall[0] < CRAWL * abs(before.mean)):
        return "no certain fall"
    known = run.wanted is not None and run.wanted.spread is not None
    if known and collapsed(run.looks):
        return "collapsed"
    return "large eps" if swallowed(run) else ""


def swallowed(run: Rehearsal) -> bool:
    """Whether Adam's eps is so large beside the gradients that the updates no longer have the size of the rate."""
    parts = [m.of_rate for m in run.moves if m.matrix and m.eps >= EPS and m.gradient > 0 and m.of_rate is not None]
    return "Adam" in run.optimizer and bool(parts) and median(p for p in parts if p is not None) < SWALLOWED


def collapsed(looks: tuple[Look, ...]) -> bool:
    """Whether samples that were told apart get the same answer at the end."""
    most = max((look.spread for look in looks), default=0.0)
    return len(looks) > 1 and most > 0 and looks[-1].spread < COLLAPSED * most


@probe
def controls(sandbox: Sandbox, run: Rehearsal) -> Controls:
    """Clipped gradients after a divergence, no decay or a usual eps where they are in doubt, then Adam until one run learns."""
    why = doubt(run)
    if not why:
        return Controls(doubt="", runs=())
    plan = course(sandbox)
    runs: list[Control] = []
    if why == "diverged":
        runs.append(_run(sandbox, plan, "clipped", 0.0))
    elif any(moves.decay > 0 for moves in run.moves):
        runs.append(_run(sandbox, plan, "no decay", 0.0))
    if swallowed(run):
        runs.append(_run(sandbox, plan, "small eps", 0.0))
    for rate in RATES if why != "large eps" else ():
        runs.append(_run(sandbox, plan, "adam", rate))
        if runs[-1].fall[1] >= SURE:
            break
    return Controls(doubt=why, runs=tuple(runs))


def _run(sandbox: Sandbox, plan: Course, kind: Kind, rate: float) -> Control:
    with sandbox.trial():
        ramp = 0
        if kind == "adam":
            optimizer = control_optimizer(sandbox, rate)
        else:
            optimizer, ramp = users_optimizer(sandbox, decay=kind != "no decay")
        if kind == "small eps":
            for group in optimizer.param_groups:
                group["eps"] = 1e-8
        before = level_if_possible(sandbox, plan.seen)
        looker = Looker(sandbox, (plan.fresh or plan.seen)[0])
        looker.look(0)
        losses: list[float] = []
        try:
            for update in train(sandbox, plan.order, optimizer, ramp=ramp, clip=CLIP if kind == "clipped" else None):
                losses.append(update.loss)
        except TargetError:
            if not losses:
                raise
        after = level_if_possible(sandbox, plan.seen)
        looker.look(len(losses))
        name = named_optimizer(optimizer)
        changed = {
            "adam": "",
            "clipped": f", gradient clipped to {CLIP}",
            "no decay": ", without weight decay",
            "small eps": ", eps=1e-08",
        }
        return Control(
            kind=kind,
            optimizer=name + changed[kind],
            losses=tuple(losses),
            before=before,
            after=after,
            first=looker.looks[0] if looker.looks else None,
            last=looker.looks[-1] if len(looker.looks) > 1 else None,
        )
