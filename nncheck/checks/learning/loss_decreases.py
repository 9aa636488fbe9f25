"""The loss does not fall in a rehearsal of the set-up's own training.

What it does
    Trains for 60 updates as the set-up would: its batches, its dropout, its optimizer and decay. Compares the loss of the same
    samples before and after in pairs, and the fall of the loss in single updates with what the gradient predicts. Where it does
    not fall, Adam gets the same batches, and so does the set-up's optimizer with one thing changed. A heavy weight decay is
    tried on one small batch.
Why it matters
    Updates that go uphill, or a decay that pulls the weights to zero, look like a hard task for days.
How to fix
    Let the optimizer step against the gradient (no `maximize=True`, no plus before the rate in one of your own). Divide a heavy
    `weight_decay` by 100. If only Adam makes the loss fall, take its rate, or the one that `learning-rate` names.
Known limits
    Sixty updates are few: where no control falls either, nothing is said. A loss that is low from the start (a pretrained
    network) need not fall, and an unknown one (a reward, an adversary's) is only judged where Adam makes it fall.
Source
    Updates against the gradient: Taylor's theorem. Weight decay as a penalty: Loshchilov & Hutter, "Decoupled Weight Decay
    Regularization" (2019). Floors: the loss functions themselves.
"""

import math
from typing import Any

from nncheck.checks._near import Edge, mean_error, near, of_t, uncertain
from nncheck.probes.controls import CRAWL, SURE as FALLS, Control, Controls, ahead
from nncheck.probes.decay_run import DecayRun
from nncheck.probes.overfit import OverfitBatch
from nncheck.probes.rehearsal import Rehearsal
from nncheck.registry import check
from nncheck.verdict import Curve, Guide, Line, Remedy, Stage, Verdict, failed, passed, skipped, warned

# A realised change of the loss this many times what repeating the same pass changes is no noise; nor is one above float32's
# resolution of the loss.
CLEAR, RESOLUTION = 10.0, 1e-5
# Under decay one batch ends at more than half of the way to a constant answer: nothing can be learned. When 5 % more of it are left
# than without decay, as much again as counts as learned, the decay stands in the way (Adam, 10 classes: 0.26 of 2.30 at 0.1).
NOTHING, LITTLE = 0.5, 0.05
# A control must be this sure (one in 30,000 by chance; squared errors have heavy tails: a fall by 80 % has t = 5), and its fall
# must be a tenth of what the loss has to give ...
SURE, WORTH = 4.0, 0.1
# ... of which the user's optimizer gets less than a twentieth.
SHARE = 0.05
# A loss that starts at less than this part of the way from its floor to the best constant has been learned before.
LEARNED = 0.5
# No density and no critic gets there in some sixty updates: a term that pays for growing weights or outputs does, exponentially.
BOTTOMLESS = 1e6
# What another seed changes, as a part of the figure (15 examples, 5 seeds each): a step's realised over predicted fall by
# 0.005 in the median, 0.02 at most in sound ones; what is left of the way at the end of a run on one batch by 0.03 to 0.17.
SEEDS_STEP, SEEDS_SHARE = 0.02, 0.1

_RATES = ("learning-rate", "lr-schedule", "update-ratio", "optimizer-coverage")


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "data-scale",
        "label-range",
        "loss-broadcast",
        "loss-at-init",
        "activation-scale",
        "dead-relu",
        "saturation",
        "gradient-flow",
        "symmetry",
        "batch-mixing",
        "gradient-check",
        "unused-parameters",
        "optimizer-coverage",
        "double-softmax",
    ),
    part="optimizer",
)
def loss_decreases(run: Rehearsal, controls: Controls, decay: DecayRun, batch: OverfitBatch) -> Verdict:
    """Judge from the plainest fault on: a turned sign, updates uphill, a heavy decay, a loss that does not fall."""
    verdict = _judge(run, controls, decay, batch)
    return uncertain(verdict, _errors(run, verdict.numbers))


def _errors(run: Rehearsal, numbers: dict[str, float]) -> dict[str, float]:
    """Standard errors: a batch's loss by the samples in it, the median of eight updates by how much these differ."""
    before = run.seen.before
    each = before.error * math.sqrt(len(before.losses)) if before is not None and before.apart else math.nan
    return {
        "first": each / math.sqrt(max(1, run.size)),
        "last": 1.25 * mean_error(run.losses[-8:]),
        "fall": of_t(*run.seen.fall),
        "t": 1.0,
        "realised_over_predicted": SEEDS_STEP * abs(numbers.get("realised_over_predicted", 0.0)),
    }


def _judge(run: Rehearsal, controls: Controls, decay: DecayRun, batch: OverfitBatch) -> Verdict:
    before, after = run.seen.before, run.seen.after
    gain, t = run.seen.fall
    measured = (
        f"{len(run.losses)} updates of {run.optimizer} took the loss from {run.losses[0]:.4g} to {_last(run):.4g}"
    )
    if before is not None and after is not None and math.isfinite(gain):
        measured += f"; on {run.seen.samples} samples it went from {before.mean:.4g} to {after.mean:.4g} (t = {t:.1f})"
    details: dict[str, Any] = {
        "numbers": {"first": run.losses[0], "last": _last(run), "fall": gain, "t": t, **_steps(run)},
        "exhibits": (_curve(run, controls, batch),),
    }
    if batch.turned:
        return failed(
            measured,
            expected="a loss that falls as the predictions get better",
            summary="training lowers a negative loss: its sign is turned",
            causes=("a minus before a loss that is to be minimised as it is",),
            remedies=(Remedy(text="take the minus away"),),
            follows=("overfit-batch",),
            **details,
        )
    if _uphill(run):
        return _say_uphill(run, batch, measured, details)
    if decay.optimizer and not decay.fit and decay.share > decay.without + LITTLE:
        return _say_decay(decay, batch, measured, details)
    if after is not None and after.mean < -BOTTOMLESS * max(1.0, abs(run.losses[0])):
        return failed(
            measured,
            expected="a loss that settles as the predictions get better",
            summary=f"the loss falls without end, to {after.mean:.4g} in {len(run.losses)} updates: nothing holds it from below",
            places=(batch.loss_place,) if batch.loss_place else (),
            causes=(
                "one term of the loss has its sign turned: it is made smaller by making weights or outputs larger",
            ),
            remedies=(
                Remedy(
                    text="look at each term by itself: one that is a distance or a divergence is added, not taken away"
                ),
            ),
            follows=("overfit-batch", "learning-rate"),
            **details,
        )
    if after is not None and _below(after.mean, batch):
        return failed(
            measured,
            expected=f"a loss that stays at or above {min(0.0, _floor(batch)):.4g}",
            summary=f"the loss falls below its floor, to {after.mean:.4g}: it does not measure what its name says",
            places=(batch.loss_place,) if batch.loss_place else (),
            causes=(
                "raw scores where log-probabilities are expected, or targets outside of the range the loss is made for",
            ),
            remedies=(Remedy(text="look at what the loss is given: its input's range and its target's"),),
            follows=("label-range", "loss-at-init", "overfit-batch"),
            near=near(_edge("the loss", after.mean, min(0.0, _floor(batch)), after.error, above=False)),
            **details,
        )
    if run.closure and run.diverged:
        how = f"{run.optimizer} fits each batch by itself; that it diverges on changing ones says nothing of the loss"
        return skipped(how, measured=measured, **details)
    if controls.doubt not in ("diverged", "no certain fall"):
        if before is None:
            return skipped("the loss cannot be taken again on the same samples", measured=measured, **details)
        # With a smaller t, or a fall of next to nothing, the controls decide.
        little = CRAWL * abs(before.mean)
        said = near(_edge("the t of the fall", t, FALLS, 1.0, above=False)) or near(
            _edge("the fall", gain, little, of_t(gain, t), above=False)
        )
        return passed(measured, expected="a loss that falls", near=said, **details)
    return _judge_controls(run, controls, batch, measured, details)


def _judge_controls(
    run: Rehearsal, controls: Controls, batch: OverfitBatch, measured: str, details: dict[str, Any]
) -> Verdict:
    """The loss does not fall for certain: does it with one thing changed, or with Adam?"""
    clipped, undecayed, adam = controls.of("clipped"), controls.of("no decay"), controls.of("adam")
    before = run.seen.before
    if clipped is not None and clipped.fall[1] >= SURE:
        how = f"with gradients clipped the loss falls by {clipped.fall[0]:.4g}; without, it does not"
        return skipped(how, measured=measured, **details)
    if before is not None and batch.goal.exact and batch.goal.share(before.mean) < LEARNED:
        return passed(f"{measured}; it starts low: this has been learned before", expected="a low loss", **details)
    worth = WORTH * _room(run, batch)
    place = (batch.optimizer_place,) if batch.optimizer_place else ()
    if undecayed is not None and _better(run, undecayed, worth):
        return failed(
            f"{measured}; {_said(undecayed)}",
            expected="a loss that falls with the weight decay as it does without",
            summary=f"the weight decay keeps the loss from falling: without it {run.optimizer} learns",
            places=place,
            causes=("`weight_decay` is too large: the weights are pulled to zero faster than the loss can hold them",),
            remedies=(Remedy(text="divide weight_decay by 100, or leave it away"),),
            near=_near(run, undecayed, worth),
            **details,
        )
    if adam is None or not _better(run, adam, worth):
        tried = ", ".join(c.optimizer for c in controls.runs)
        how = f"{tried} does not make it fall for certain either" if tried else controls.no_more
        return skipped(f"undecided: {how}", measured=measured, **details)
    rises = run.diverged or run.seen.fall[1] < -SURE
    return (failed if rises else warned)(
        f"{measured}; {_said(adam)}",
        expected=f"a loss that falls with {run.optimizer} as it does with {adam.optimizer}",
        summary=f"the loss {'rises' if rises else 'does not fall'} with {run.optimizer}; {adam.optimizer} lowers it",
        places=place,
        causes=(
            "the learning rate is too large: every update overshoots"
            if rises
            else "the learning rate is far too small for the weights",
            "an optimizer of your own that does not step against the gradient",
        ),
        remedies=(Remedy(text=f"take {adam.optimizer} for a start, or the rate that learning-rate names"),),
        follows=_RATES,
        near=_near(run, adam, worth) or ("" if run.diverged else near(_rising(run))),
        **details,
    )


def _edge(name: str, value: float, limit: float, error: float, *, above: bool = True) -> Edge:
    return Edge(name=name, value=value, limit=limit, error=error, above=above)


def _rising(run: Rehearsal) -> Edge:
    return _edge("the t of the fall", run.seen.fall[1], -SURE, 1.0, above=False)


def _near(run: Rehearsal, control: Control, worth: float) -> str:
    """Of the conditions of `_better`."""
    gain, t = control.fall
    name = f"the t of the fall with {control.optimizer}"
    if run.diverged:
        return near(_edge(name, t, FALLS, 1.0))
    mine, own_t = run.seen.fall
    # Where a fall that is certain is next to nothing, its t is no condition.
    doubt = (_edge("the t of the fall", own_t, FALLS, 1.0, above=False),) if own_t < FALLS else ()
    return near(
        _edge(name, t, SURE, 1.0),
        _edge(f"the t of the lead of {control.optimizer}", ahead(run, control)[1], SURE, 1.0),
        _edge(f"the fall with {control.optimizer}", gain, worth, of_t(gain, t)),
        _edge("the fall", mine, SHARE * gain, of_t(mine, own_t), above=False),
        *doubt,
    )


def _say_uphill(run: Rehearsal, batch: OverfitBatch, measured: str, details: dict[str, Any]) -> Verdict:
    first = run.descents[0]
    return failed(
        f"the first update changes the loss by {-first.realised:+.3g}; its gradient predicts {-first.predicted:+.3g}; {measured}",
        expected="updates against the gradient",
        summary=f"the updates of {run.optimizer} go uphill: each makes the loss larger, as its own gradient predicts",
        places=(batch.optimizer_place,) if batch.optimizer_place else (),
        causes=(
            "`maximize=True` with a loss that is to be minimised",
            "an optimizer of your own that adds the gradient where it should subtract it",
            "gradients multiplied by a negative number before the step",
        ),
        remedies=(Remedy(text="step against the gradient", code="parameter -= lr * parameter.grad"),),
        **details,
    )


def _say_decay(decay: DecayRun, batch: OverfitBatch, measured: str, details: dict[str, Any]) -> Verdict:
    how = f"decay/2 * |w|^2 is {decay.penalty:.3g} at the start" if decay.coupled else "decoupled from the gradient"
    return (failed if decay.share > NOTHING else warned)(
        f"under weight_decay={decay.decay:g} ({how}) {decay.optimizer} takes {batch.samples} samples no further than "
        f"{decay.end:.4g}; without decay they are learned to {batch.best.losses[-1]:.4g}; {measured}",
        expected=f"at most {batch.goal.value:.3g}, as without decay",
        summary=f"weight_decay={decay.decay:g} pulls the weights to zero: one batch stops at {decay.end:.4g}",
        places=(batch.optimizer_place,) if batch.optimizer_place else (),
        causes=("`weight_decay` is too large, perhaps meant for a decoupled decay (AdamW)",),
        remedies=(Remedy(text="divide weight_decay by 100", code=f"weight_decay={decay.decay / 100:g}"),),
        near=near(_left(decay, decay.without + LITTLE)) or near(_left(decay, NOTHING)),
        **details,
    )


def _left(decay: DecayRun, limit: float) -> Edge:
    return _edge("the share that is left under the decay", decay.share, limit, SEEDS_SHARE * decay.share)


def _uphill(run: Rehearsal) -> bool:
    """Whether the first two updates go up as their own gradient predicts: momentum is no excuse yet. And the loss rose."""
    early = [d for d in run.descents if d.update < 2]
    return (
        len(early) == 2
        and all(d.predicted < 0 and d.realised < 0 for d in early)
        and all(-d.realised > max(CLEAR * d.again, RESOLUTION * abs(d.loss)) for d in early)
        and (run.diverged or run.seen.fall[0] < 0)
        and not any(moves.decay > 0 for moves in run.moves if moves.rate > 0)
    )


def _better(run: Rehearsal, control: Control, worth: float) -> bool:
    """Whether a control falls for certain, by as much as is worth naming, and the rehearsal does not come near it."""
    gain, t = control.fall
    mine = run.seen.fall[0] if math.isfinite(run.seen.fall[0]) else -math.inf
    if run.diverged:  # what explodes need not be compared with: it is enough that a control does not
        return t >= FALLS and gain > 0
    return t >= SURE and ahead(run, control)[1] >= SURE and gain > worth and mine < SHARE * gain


def _room(run: Rehearsal, batch: OverfitBatch) -> float:
    """What the loss has to give: down to its floor; all of it where none is known."""
    start = run.seen.before.mean if run.seen.before is not None else run.losses[0]
    return start - batch.goal.floor if batch.goal.exact else abs(start)


def _below(loss: float, batch: OverfitBatch) -> bool:
    if batch.goal.kind == "nll" and not batch.goal.exact:
        return loss < 0
    # The floor of the one small batch is not that of others: soft targets (MixUp) and contradicting labels give each its own. No
    # loss with a known floor goes below 0 on targets that it is made for.
    return batch.goal.exact and loss < min(0.0, batch.goal.lowest)


def _floor(batch: OverfitBatch) -> float:
    return batch.goal.floor if batch.goal.exact else 0.0


def _last(run: Rehearsal) -> float:
    last = sorted(run.losses[-8:])
    return last[len(last) // 2]


def _said(control: Control) -> str:
    first, last = control.losses[0], sorted(control.losses[-8:])
    return f"{control.optimizer} takes the same batches from {first:.4g} to {last[len(last) // 2]:.4g}"


def _steps(run: Rehearsal) -> dict[str, float]:
    found = sorted(d.realised / d.predicted for d in run.descents if d.predicted != 0)
    return {"realised_over_predicted": found[len(found) // 2]} if found else {}


def _curve(run: Rehearsal, controls: Controls, batch: OverfitBatch) -> Curve:
    runs = [(run.optimizer, run.losses), *((c.optimizer, c.losses) for c in controls.runs)]
    lines = [Line(label=label, x=tuple(float(i) for i in range(len(y))), y=y) for label, y in runs]
    known = batch.goal.exact and math.isclose(
        run.losses[0], run.seen.before.mean if run.seen.before else math.nan, rel_tol=0.5
    )
    guides = (Guide(label="best constant", value=batch.goal.constant), Guide(label="floor", value=batch.goal.floor))
    return Curve(
        title="Loss before each update of the rehearsal",
        x_label="update",
        y_label=batch.goal.kind or "loss",
        lines=tuple(lines),
        guides=guides if known else (),
    )
