"""The learning rate is far too high or far too low for this network.

What it does
    Raises the rate from 1e-7 to 10 over up to 96 small updates until the loss blows up, and looks where the set-up's own rate lies.
    Where 60 updates at that rate raise the loss, or hardly move the weights, the same optimizer gets the same samples at a tenth,
    a hundredth, or at ten to a thousand times the rate. Says which range is worth searching.
Why it matters
    The rate is the one number that decides most; a wrong one looks like a bad network or a hard task.
How to fix
    Take the rate that the message names, or search log-uniformly in the range given. With `reduction="sum"` divide by the batch.
Known limits
    Fails only where a lower rate trains what the set-up's own does not. Where the source clips gradients or the network is
    recurrent, a rate that trains with clipped gradients is left alone; so is a low one for a network that was trained before.
Source
    Smith, "Cyclical Learning Rates" (2017), and fastai's `lr_find`: bounds and suggestions. Karpathy: Adam at 3e-4.
"""

import math
from typing import Any

from nncheck.checks._near import Edge, near, of_t, uncertain
from nncheck.probes.controls import Controls
from nncheck.probes.rate_range import RateRange, RateRun
from nncheck.probes.rehearsal import Rehearsal
from nncheck.registry import check
from nncheck.verdict import Curve, Line, Place, Remedy, Stage, Table, Verdict, failed, passed, skipped, warned

# A fall of the loss on the same samples that is no chance: four standard errors, beside a run of the set-up's own that failed.
# Where that did not fail, a lead of six. Squared errors have few large ones among them: even a fall by nine tenths has t = 5.
SURE, FAR_AHEAD = 4.0, 6.0
# ... and worth naming: this part of what the loss is at the start.
WORTH = 0.1
# Too low: the set-up's rate does less than this part, in 60 whole updates, of what 32 small ones do at up to 1,000 times the rate
# (Adam on digits: 1e-4 does 7 %, 1e-5 0.7 %, 1e-6 0.3 %; SGD: 1e-3 2 %, 1e-4 0.2 %) ...
NEXT_TO_NOTHING = 0.005
# ... while the median update is below this part of the weights (numerics: Adam at 1e-6 1e-5, at 1e-5 1e-4, at 1e-4 1e-3).
STANDSTILL = 1e-4
# Momentum of 0.99 averages over 100 updates; beyond, the average outlasts what it was taken from.
LONGEST_MOMENTUM = 0.99
# What another seed changes, as a part of the figure (15 examples, 5 seeds each; median over them): the rates that a range test
# finds by 0.3 to 0.9 of them, the size of an update by 0.03.
SEEDS_RATE, SEEDS_RATIO = 0.5, 0.05
_FOUND = ("diverges", "minimum", "steepest", "valley", "search_low", "search_high")


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "loss-broadcast",
        "loss-at-init",
        "data-scale",
        "label-range",
        "activation-scale",
        "saturation",
        "gradient-flow",
        "symmetry",
        "batch-mixing",
        "gradient-check",
        "unused-parameters",
        "optimizer-coverage",
        "double-softmax",
        "loss-decreases",
    ),
    part="optimizer",
)
def learning_rate(found: RateRange, run: Rehearsal, controls: Controls) -> Verdict:
    """Judge momentum and betas by themselves, then a rate that raises the loss, then one that does nothing."""
    verdict = _judge(found, run, controls)
    numbers = verdict.numbers
    return uncertain(verdict, {name: SEEDS_RATE * numbers[name] for name in _FOUND if name in numbers})


def _judge(found: RateRange, run: Rehearsal, controls: Controls) -> Verdict:
    measured = _measured(found, run)
    place: tuple[Place, ...] = ()
    details: dict[str, Any] = {"exhibits": _exhibits(found, run), "numbers": _numbers(found), "places": place}
    odd = _odd_momentum(found)
    if odd is not None:
        certain, summary, expected, text, code = odd
        return (failed if certain else warned)(
            f"{summary}; {measured}",
            expected=expected,
            summary=summary,
            causes=("the two numbers changed places",) if found.betas else ("a decay was given for a momentum",),
            remedies=(Remedy(text=text, code=code),),
            **details,
        )
    better = _lower_is_better(found, run)
    if better is not None:
        clipped = controls.of("clipped")
        if found.clips and clipped is not None and clipped.fall[1] >= SURE and clipped.fall[0] > 0.5 * better.fall[0]:
            how = f"with gradients clipped it trains at its own rate of {found.rate:g}; without, at {better.rate:g}"
            return skipped(how, measured=measured, exhibits=details["exhibits"])
        rises = run.diverged or run.seen.fall[1] < -SURE
        what = "raises the loss" if rises else "gets almost nowhere"
        return (failed if rises else warned)(
            f"{_said(run)}; {better.optimizer} lowers it by {better.fall[0]:.4g} in {len(better.losses)} small updates; {measured}",
            expected="a rate that lowers the loss",
            summary=f"the rate of {found.rate:g} is too high: it {what}, while {better.rate:g} lowers it on the same samples",
            causes=(
                "the learning rate is too high for this network and batch",
                "a loss that is summed over samples with a rate meant for the mean",
            ),
            remedies=(Remedy(text=_advice(found, better.rate), code=f"lr={better.rate:g}"),),
            near=_near_lower(better, run),
            **details,
        )
    higher = _higher_is_better(found, run)
    if higher is not None:
        return warned(
            f"{_said(run)}; {higher.optimizer} lowers it by {higher.fall[0]:.4g} in {len(higher.losses)} small updates; {measured}",
            expected="a rate at which the loss falls within the run",
            summary=f"the rate of {found.rate:g} is too low: 60 updates do {_part(run.seen.fall[0], higher.fall[0])} of what "
            f"{higher.rate:g} does in {len(higher.losses)} small ones",
            causes=("the learning rate is far too low for weights that are not trained yet",),
            remedies=(Remedy(text=_advice(found, higher.rate), code=f"lr={higher.rate:g}"),),
            near=_near_higher(higher, run),
            **details,
        )
    nearly = [
        _near_lower(tried, run) if (tried.factor or 1) < 1 else _near_higher(tried, run) for tried in _rivals(found)
    ]
    return passed(
        measured, expected="a rate between standstill and divergence", near=next(filter(None, nearly), ""), **details
    )


def _rivals(found: RateRange) -> list[RateRun]:
    return [tried for tried in found.tried if tried.factor is not None and tried.after is not None]


def _fall_edges(tried: RateRun, run: Rehearsal) -> tuple[Edge, Edge]:
    gain, t = tried.fall
    worth = WORTH * abs(run.seen.before.mean) if run.seen.before is not None else math.nan
    return (
        Edge(name=f"the t of the fall at {tried.rate:g}", value=t, limit=SURE, error=1.0),
        Edge(name=f"the fall at {tried.rate:g}", value=gain, limit=worth, error=of_t(gain, t)),
    )


def _near_lower(tried: RateRun, run: Rehearsal) -> str:
    """Of the conditions of `_lower_is_better`, and of what makes it certain."""
    edges = _fall_edges(tried, run)
    if run.diverged:
        return near(*edges)
    lead, t = tried.lead
    said = near(
        *edges,
        Edge(name=f"the t of the lead of {tried.rate:g}", value=t, limit=FAR_AHEAD, error=1.0),
        Edge(name=f"the lead of {tried.rate:g}", value=lead, limit=0.5 * tried.fall[0], error=of_t(lead, t)),
    )
    rises = Edge(name="the t of the fall", value=run.seen.fall[1], limit=-SURE, error=1.0, above=False)
    return said or (near(rises) if all(edge.holds for edge in edges) and t >= FAR_AHEAD else "")


def _near_higher(tried: RateRun, run: Rehearsal) -> str:
    """Of the conditions of `_higher_is_better`."""
    ratio = _middle_ratio(run)
    if ratio is None or run.diverged:
        return ""
    mine, t = run.seen.fall
    return near(
        *_fall_edges(tried, run),
        Edge(name="the median update", value=ratio, limit=STANDSTILL, error=SEEDS_RATIO * ratio, above=False),
        Edge(name="the fall", value=mine, limit=NEXT_TO_NOTHING * tried.fall[0], error=of_t(mine, t), above=False),
    )


def _middle_ratio(run: Rehearsal) -> float | None:
    ratios = sorted(m.ratio for m in run.moves if m.matrix and m.ratio is not None and m.rate > 0)
    return ratios[len(ratios) // 2] if ratios else None


def _lower_is_better(found: RateRange, run: Rehearsal) -> RateRun | None:
    """The run at a lower rate that lowers the loss for certain, and certainly further than the set-up's own rate does."""
    start = abs(run.seen.before.mean) if run.seen.before is not None else math.nan
    for tried in found.tried:
        if tried.factor is None or tried.factor >= 1 or tried.after is None or run.seen.after is None:
            continue
        gain, t = tried.fall
        if t >= SURE and gain > WORTH * start:
            lead, lead_t = tried.lead
            if run.diverged or (lead_t >= FAR_AHEAD and lead > 0.5 * gain):
                return tried
    return None


def _higher_is_better(found: RateRange, run: Rehearsal) -> RateRun | None:
    """The lowest of the higher rates that does much, where the set-up's own does next to nothing."""
    ratio = _middle_ratio(run)
    if found.pretrained or run.diverged or ratio is None or ratio >= STANDSTILL or run.seen.before is None:
        return None
    start, mine = abs(run.seen.before.mean), run.seen.fall[0]
    for tried in found.tried:
        gain, t = tried.fall
        if tried.factor is not None and tried.factor > 1 and t >= SURE and gain > WORTH * start:
            return tried if mine < NEXT_TO_NOTHING * gain else None
    return None


def _odd_momentum(found: RateRange) -> tuple[bool, str, str, str, str] | None:
    """(certain, what is odd, what is usual, what to do, the code) of a momentum or of a pair of betas."""
    if found.betas is not None and found.betas[1] < found.betas[0]:
        first, second = found.betas
        return (
            True,
            f"betas=({first:g}, {second:g}): the squares of the gradient are averaged over fewer updates than the gradient itself",
            "a second beta at least as large as the first",
            "swap the two: the first is the momentum, the second the average of the squares",
            f"betas=({second:g}, {first:g})",
        )
    if found.momentum is not None and found.momentum > LONGEST_MOMENTUM:
        over = "without end" if found.momentum >= 1 else f"over {1 / (1 - found.momentum):,.0f} updates"
        return (
            found.momentum >= 1,
            f"momentum={found.momentum:g} adds the gradients up {over}",
            f"a momentum of at most {LONGEST_MOMENTUM}; 0.9 is usual",
            "use a momentum of 0.9",
            "momentum=0.9",
        )
    return None


def _advice(found: RateRange, rate: float) -> str:
    if found.searchable is None:
        return f"start from {rate:g}"
    low, high = found.searchable
    return f"start from {rate:g}; worth searching log-uniformly: {low:.1g} to {high:.1g}"


def _part(mine: float, other: float) -> str:
    return "nothing" if not mine > 0 else f"{mine / other:.2%}"


def _said(run: Rehearsal) -> str:
    if run.seen.after is None or run.seen.before is None or not math.isfinite(run.seen.after.mean):
        last = run.losses[-1]
        return f"{len(run.losses)} updates of {run.optimizer} took the loss from {run.losses[0]:.4g} to {last:.4g}"
    return (
        f"{len(run.losses)} updates of {run.optimizer} took the loss of {run.seen.samples} samples from "
        f"{run.seen.before.mean:.4g} to {run.seen.after.mean:.4g}"
    )


def _measured(found: RateRange, run: Rehearsal) -> str:
    if found.diverges is not None:
        words = f"the loss blows up at a rate of {found.diverges:.2g}"
    else:
        words = f"the loss does not blow up at any rate up to {found.rates[-1]:.2g}"
    if found.minimum is not None and found.steepest is not None:
        words += f", is lowest at {found.minimum:.2g} and falls fastest at {found.steepest:.2g}"
    words += f"; the set-up's is {found.rate:g}"
    if found.searchable is not None:
        words += f"; worth searching log-uniformly: {found.searchable[0]:.1g} to {found.searchable[1]:.1g}"
    steps = sorted(d.realised / d.predicted for d in run.descents if d.predicted > 0)
    if steps:
        words += f"; a step lowers the loss {steps[len(steps) // 2]:.2f} times as much as its gradient predicts"
    return words


def _numbers(found: RateRange) -> dict[str, float]:
    named = {"rate": found.rate, "diverges": found.diverges, "minimum": found.minimum, "steepest": found.steepest}
    named |= {"valley": found.valley}
    if found.searchable is not None:
        named |= {"search_low": found.searchable[0], "search_high": found.searchable[1]}
    return {name: value for name, value in named.items() if value is not None}


def _exhibits(found: RateRange, run: Rehearsal) -> tuple[Curve, Table]:
    kept = [(r, s) for r, s in zip(found.rates, found.smooth, strict=False) if math.isfinite(s)]
    low, high = min((s for _, s in kept), default=0.0), max((s for _, s in kept), default=1.0)
    curve = Curve(
        title="Range test: the smoothed loss while the rate rises",
        x_label="learning rate",
        y_label="loss",
        lines=(
            Line(label="loss", x=tuple(r for r, _ in kept), y=tuple(s for _, s in kept)),
            Line(label=f"the set-up's rate, {found.rate:g}", x=(found.rate, found.rate), y=(low, high)),
        ),
        log_x=True,
    )
    rows = [(run.optimizer, f"{len(run.losses)} whole", *_row(run.seen.fall))]
    for tried in (found.control, *found.tried):
        if tried is not None:
            rows.append((tried.optimizer, f"{len(tried.losses)} small", *_row(tried.fall)))
    title = f"What runs at other rates do on the same {run.seen.samples} samples"
    return curve, Table(title=title, columns=("optimizer", "updates", "loss falls by", "t"), rows=tuple(rows))


def _row(fallen: tuple[float, float]) -> tuple[str, str]:
    return (f"{fallen[0]:.4g}", f"{fallen[1]:.1f}") if math.isfinite(fallen[0]) else ("not known", "")
