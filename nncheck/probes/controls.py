"""The rehearsal once more with a known-good optimizer, where the user's leaves a doubt: what could have been learned in it.

The same batches in the same order with the same random numbers; only what the control is named after is changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch

from nncheck.errors import TargetError
from nncheck.lab.held import Level, fall, level_if_possible
from nncheck.lab.looks import Look, Looker
from nncheck.lab.meter import ENOUGH
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import control_optimizer, coupled_decay, named_optimizer, train, trainable, users_optimizer
from nncheck.probes.overfit import CLIP
from nncheck.probes.rehearsal import UPDATES, Course, Rehearsal, course
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
# Rates of the control: the one most networks learn at, and one for networks that break at it (their loss rises).
RATES = (1e-3, 3e-4)
# A user's Adam within this factor of a rate is that control already.
ALIKE = 2.0
# ... if its two averages are about as long as usual: the first below 0.95, the second above.
USUAL = (0.5, 0.95)
# Training steps of one run: its updates, and the losses before and after on two batches.
PRICE = UPDATES + 2.0
# Decay that in the whole run takes less than this part of the weights, or is less than half of each tensor's gradient, turns no
# update round: leaving it out would show nothing.
TAKEN, OF_GRADIENT = 0.01, 0.5


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
    """The runs made: none where the rehearsal leaves no doubt (`doubt` is empty then).

    no_more: why a run that was called for was not made; empty if all were.
    """

    doubt: str
    runs: tuple[Control, ...]
    no_more: str = ""

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
    decayed = weighs(run, coupled=coupled_decay(sandbox.optimizer))
    own = None if decayed or swallowed(run) else _own_rate(sandbox)
    for kind, rate in _plan(run, why, runs, decayed=decayed, own=own):
        if not sandbox.meter.affords(PRICE):
            return Controls(doubt=why, runs=tuple(runs), no_more=ENOUGH)
        runs.append(_run(sandbox, plan, kind, rate))
    return Controls(doubt=why, runs=tuple(runs), no_more="" if runs else f"{run.optimizer} is a known-good one")


def _plan(
    run: Rehearsal, why: str, runs: list[Control], *, decayed: bool, own: float | None
) -> Iterator[tuple[Kind, float]]:
    """Which run comes next, given those made. own: the rate of a user's Adam over everything: what it did is known."""
    if why == "diverged":
        yield "clipped", 0.0
    elif decayed:
        yield "no decay", 0.0
    if swallowed(run):
        yield "small eps", 0.0
    if why == "large eps":
        return
    for rate in RATES:
        if own is not None and 1 / ALIKE <= rate / own <= ALIKE:
            gain, t = run.seen.fall
        else:
            yield "adam", rate
            gain, t = runs[-1].fall
        if t >= SURE or gain >= 0:
            return


def _own_rate(sandbox: Sandbox) -> float | None:
    """The rate of the user's Adam, if it is one as it comes, over everything that is trained."""
    if type(sandbox.optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
        return None
    with sandbox.trial():
        groups = users_optimizer(sandbox)[0].param_groups
        held = {id(p) for group in groups for p in group["params"]}
        whole = all(id(p) in held for p in trainable(sandbox))
        rates = {float(group["lr"]) for group in groups}
        usual = all(not g["maximize"] and USUAL[0] <= g["betas"][0] <= USUAL[1] <= g["betas"][1] for g in groups)
    return rates.pop() if whole and usual and len(rates) == 1 else None


def weighs(run: Rehearsal, *, coupled: bool) -> bool:
    """Whether weight decay could have kept the loss from falling."""
    for moves in run.moves:
        if moves.decay <= 0:
            continue
        if coupled and moves.decay * max(moves.start, moves.end) > OF_GRADIENT * moves.gradient > 0:
            return True
        if not coupled and moves.rate * moves.decay * len(run.losses) > TAKEN:
            return True
    return False


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
