"""The gradient vanishes, explodes or never arrives.

What it does
    Measures each parameter's gradient over three steps of the user's optimizer and, for every weight matrix, how much the
    loss would answer to a relative change of it: |gradient| x |weight| / |loss|. Looks at what stands between output and
    loss: a re-wrapped loss, a clamp over the samples' losses, scores squeezed to exactly 0 or 1. Where terms of the loss have
    weights far apart, compares what each sends to the parameters that they share.
Why it matters
    backward() runs without complaint when every gradient is zero or none. Layers that get 1e-9 of the loss do not train,
    and a loss that is clamped ignores exactly the samples that are most wrong.
How to fix
    Compute the loss from the model's output in differentiable operations only: no `torch.tensor(loss, requires_grad=True)`,
    argmax, rounding or clamp to (0, 1). Clip gradients, not losses. Weigh terms so that none drowns another. Against vanishing
    gradients: ReLU-like activations, normalisation or residual connections, and an initialisation with a gain
    (`nn.init.kaiming_normal_`).
Known limits
    Biases and gains are not judged by size; a key bias in attention has no gradient by construction. Layers behind a
    zero-initialised branch are judged only by whether a gradient arrives after a step or two. Plain default-initialised
    nets of some twenty layers train slowly and are left to activation-scale.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019), on clipping the loss instead of the gradient; Glorot and
    Bengio (2010), on vanishing gradients.
"""

import dataclasses
import itertools
import math

from nncheck.checks._near import Edge, near, share_error, uncertain
from nncheck.checks.init._drowned_term import drowned
from nncheck.probes.gradients import Gradients, ParameterGradients
from nncheck.probes.lost_gradient import LostGradient
from nncheck.probes.term_shares import TermShares
from nncheck.probes.unreached import Branch, Unreached
from nncheck.registry import check
from nncheck.verdict import Bars, Guide, Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# r = |g| |w| / |loss| of the first weight matrix, largest of three steps. Measured at width 64, 4 classes, default init:
# ReLU 8 layers 3e-3, 12 layers 8e-5, 20 layers 7e-8; transformers (std 0.02) 1e-3; sigmoid 3 layers 3e-2, 8 layers 2e-6,
# 12 layers 7e-10; ReLU with std 0.001 in 3 layers 2e-6. Plain ReLU nets lose a factor 2 a layer and still train slowly;
# sigmoid stacks and too small weights lose 5 or more.
VANISHING, VANISHED = 1e-5, 1e-9
FACTOR = 4.0
# r of the largest matrix: ReLU, transformers 0.1 to 50, a 20-layer BatchNorm net 160; weights from N(0, 1) in a transformer
# 7e3, a recurrent net with gain 3 over 160 steps overflows.
EXPLODING, EXPLODING_RATIO = 1e4, 1e3
# A raw score clamped to [0, 1] puts about half of the scores on an edge; a sigmoid in float32 puts none there below |x| = 17.
SQUEEZED = 0.1
# What another seed changes in |g| |w| / |loss|, as a part of it (weights of 1e-3 in four layers, 5 seeds): 0.04 of the smallest,
# 0.13 of the largest.
SEEDS = 0.1


@check(
    stage=Stage.INIT,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "data-scale",
        "label-range",
        "symmetry",
        "dead-relu",
        "saturation",
        "activation-scale",
        "loss-at-init",
        "optimizer-coverage",
    ),
)
def gradient_flow(steps: Gradients, lost: LostGradient, found: Unreached, terms: TermShares) -> Verdict:
    """Judge what arrives: nothing at all, nothing somewhere, too little or too much, and of which term of the loss."""
    rows = steps.trainable
    if not rows:
        return skipped("no parameter is trainable")
    reached = [r for r in rows if r.reached]
    measured = _measured(steps, reached)
    numbers = {"trainable": float(len(rows)), "with_gradient": float(len(reached))}
    exhibits = _bars(steps)
    return (
        _nothing(steps, lost, measured, numbers)
        or _one_class(lost, measured, numbers)
        or _squeezed(lost, measured, numbers)
        or _clamped(lost, measured, numbers)
        or _silent(steps, found, measured, numbers, exhibits)
        or _size(steps, measured, numbers, exhibits)
        or drowned(terms, numbers)
        or passed(
            measured,
            expected="a gradient at every layer, none vanishing",
            numbers=numbers,
            exhibits=exhibits,
            near=_near_size(steps),
        )
    )


def relative(row: ParameterGradients, losses: tuple[float, ...]) -> float | None:
    """The largest |g| |w| / |loss| over the steps; None for biases, gains and what slept at the first step."""
    if len(row.shape) < 2 or not row.gradients or not row.peaks[0] or not row.trainable:
        return None
    values = [
        g * w / abs(loss)
        for g, w, loss in zip(row.gradients, row.weight, losses, strict=False)
        if g is not None and w and loss and math.isfinite(loss)
    ]
    return max(values) if values else None


def _relatives(steps: Gradients) -> list[tuple[ParameterGradients, float]]:
    pairs = [(row, relative(row, steps.losses)) for row in steps.parameters]
    return [(row, value) for row, value in pairs if value is not None and value > 0]


def _measured(steps: Gradients, reached: list[ParameterGradients]) -> str:
    sizes = [value for _, value in _relatives(steps)]
    text = f"{len(reached)} of {len(steps.trainable)} trainable parameters get a gradient"
    if sizes:
        text += f"; |g||w|/loss of the weight matrices from {min(sizes):.1e} to {max(sizes):.1e}"
    return text


def _nothing(steps: Gradients, lost: LostGradient, measured: str, numbers: dict[str, float]) -> Verdict | None:
    if steps.backward_error:
        return failed(
            f"the backward pass of step {len(steps.losses)} fails: {steps.backward_error}",
            expected="every step's graph is its own",
            summary=f"backward fails at step {len(steps.losses)}: part of the graph is left over from an earlier step",
            numbers=numbers,
            places=(lost.loss_place,) if lost.loss_place else (),
            causes=(
                "a tensor computed from parameters once, in `__init__`, is used in every forward",
                "a hidden state is carried from batch to batch without `.detach()`",
            ),
            remedies=(Remedy(text="compute it in forward, or detach the state between batches"),),
        )
    if any(r.reached for r in steps.trainable):
        return None
    how = "made into a new tensor" if lost.rewrapped else "not made from any parameter"
    return failed(
        f"backward runs, and none of {len(steps.trainable)} trainable parameters gets a gradient",
        expected="a gradient at every trainable parameter",
        summary=f"no parameter gets a gradient: the loss is {how}",
        numbers=numbers,
        places=(lost.loss_place,) if lost.loss_place else (),
        causes=(
            "`torch.tensor(loss, requires_grad=True)` or `.requires_grad_()` on a loss without history hides the cut",
            "the loss is made from `argmax`, a rounded value or a metric",
        ),
        remedies=(Remedy(text="use the loss as computed from the model's output; do not wrap it again"),),
    )


def _one_class(lost: LostGradient, measured: str, numbers: dict[str, float]) -> Verdict | None:
    if lost.one_class is None:
        return None
    return failed(
        f"cross-entropy over a single class: loss {lost.loss:g}; " + measured,
        expected="at least two classes",
        summary="cross-entropy over one output is always 0 and has no gradient",
        numbers=numbers,
        places=(lost.one_class,),
        causes=("a binary problem with one output unit and a loss for several classes",),
        remedies=(
            Remedy(
                text="use the binary loss for one output unit, or two output units",
                code="loss_fn = nn.BCEWithLogitsLoss()  # with float targets of the output's shape",
            ),
        ),
    )


def _squeezed(lost: LostGradient, measured: str, numbers: dict[str, float]) -> Verdict | None:
    if lost.squeezed <= SQUEEZED:
        return None
    return failed(
        f"{lost.squeezed:.0%} of the scores given to the binary cross-entropy are exactly 0 or 1; " + measured,
        expected=f"at most {SQUEEZED:.0%}: where a score is clamped its gradient is zero",
        summary=f"{lost.squeezed:.0%} of the scores are squeezed to exactly 0 or 1 and get no gradient",
        numbers={**numbers, "squeezed": lost.squeezed},
        places=(lost.squeezed_at,) if lost.squeezed_at else (),
        causes=("`clamp(0, 1)` stands in for a sigmoid", "scores so large that the sigmoid is exactly 0 or 1"),
        remedies=(Remedy(text="drop the clamp and the sigmoid", code="loss_fn = nn.BCEWithLogitsLoss()"),),
    )


def _clamped(lost: LostGradient, measured: str, numbers: dict[str, float]) -> Verdict | None:
    hit = [c for c in lost.clamped if c.over]
    if not hit:
        return None
    worst = max(hit, key=lambda c: c.over / c.count)
    verdict = failed if worst.over == worst.count else warned
    found = verdict(
        f"{worst.over} of {worst.count} losses lie above the clamp at {worst.bound:g}, where the gradient is zero; "
        + measured,
        expected="every sample's loss has a gradient",
        summary=f"the loss is clamped at {worst.bound:g}: the samples that are most wrong get no gradient",
        numbers={**numbers, "clamped": worst.over / worst.count},
        places=(worst.place,),
        causes=("the loss is clipped where the gradient was meant to be",),
        remedies=(
            Remedy(
                text="clip the gradient instead",
                code="torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)  # between backward and step",
            ),
        ),
    )
    return uncertain(found, {"clamped": share_error(worst.over / worst.count, worst.count)})


def _meant(branch: Branch) -> bool:
    # Inside a library's model an exact zero is the library's: attention over a single key, a part for other inputs.
    return branch.zeroed or branch.asleep or not branch.users or bool(branch.siblings and branch.routed)


def _silent(
    steps: Gradients, found: Unreached, measured: str, numbers: dict[str, float], exhibits: tuple[Bars, ...]
) -> Verdict | None:
    by_name = {r.name: r for r in steps.parameters}
    silent = [
        b
        for b in found.branches
        # A lone bias may have no gradient by construction (attention keys, a bias before BatchNorm).
        if b.silent
        and not _meant(b)
        and any(len(by_name[n].shape) > 1 for n in b.names)
        and (b.module or len(b.names) > 1)
    ]
    if not silent or len(steps.losses) < 3:
        return None
    count = sum(len(b.names) for b in silent)
    whole = count >= sum(r.reached for r in steps.trainable)
    what = (
        "every parameter" if whole else ", ".join(b.name for b in silent[:3]) + (" and more" if len(silent) > 3 else "")
    )
    return failed(
        f"{count} parameters have a gradient of exactly zero in {len(steps.losses)} steps; " + measured,
        expected="no exact zeros after the second step",
        summary=f"the gradient of {what} is exactly zero",
        numbers={**numbers, "zero_gradient": float(count)},
        places=tuple(b.place for b in silent),
        causes=(
            "both factors of a product start at zero, so neither ever gets a gradient",
            "all units behind it are dead or clamped",
            "an operation without slope (round, sign, a comparison, argmax) stands between it and the loss",
        ),
        remedies=(Remedy(text="start one factor away from zero, or replace the operation that has no slope"),),
        exhibits=exhibits,
    )


def _size(steps: Gradients, measured: str, numbers: dict[str, float], exhibits: tuple[Bars, ...]) -> Verdict | None:
    rows = _relatives(steps)
    if len(rows) < 3:
        return None
    sizes = [value for _, value in rows]
    numbers = {**numbers, "smallest": min(sizes), "largest": max(sizes)}
    spread = {name: SEEDS * numbers[name] for name in ("smallest", "largest")}
    top, first = max(sizes), sizes[0]
    rising = sum(b > a for a, b in itertools.pairwise(sizes)) / (len(sizes) - 1)
    # A gradient that shrinks on its way back is smallest at the first layer and grows from there; a branch that starts
    # small (LayerScale) leaves the first layer alone.
    factor = (top / first) ** (1 / (len(sizes) - 1)) if first else math.inf
    if first < VANISHING and first < 1e-2 * top and rising >= 0.7 and (factor >= FACTOR or first < VANISHED):
        verdict = failed if first < VANISHED and factor >= FACTOR else warned
        found = verdict(
            f"the first layer's |g||w|/loss is {first:.1e}, the largest {top:.1e}; it shrinks {factor:.1f}-fold a layer",
            expected=f"above {VANISHING:g}",
            summary=f"the gradient vanishes on its way back: {rows[0][0].name} gets {first:.0e} of the loss",
            numbers=numbers,
            places=(_at(rows[0][0], f"|g||w|/loss {first:.1e}"),),
            causes=("many sigmoid or tanh layers in a row", "weights that start too small", "no skip or normalisation"),
            remedies=(
                Remedy(text="start the weights with a gain", code="nn.init.kaiming_normal_(layer.weight)"),
                Remedy(text="use ReLU-like activations, normalisation or residual connections"),
            ),
            exhibits=exhibits,
        )
        return uncertain(found, spread, near(_answer(first, VANISHING, above=False)) or _near_vanished(first, factor))
    last = sizes[-1]
    if top > EXPLODING and top > EXPLODING_RATIO * last:
        name = rows[sizes.index(top)][0].name
        found = warned(
            f"|g||w|/loss reaches {top:.1e} at {name} against {last:.1e} at the last layer",
            expected=f"below {EXPLODING:g}",
            summary=f"the gradient explodes on its way back: {top:.0e} times the loss at {name}",
            numbers=numbers,
            places=(Place(name=name, detail=f"|g||w|/loss {top:.1e}"),),
            causes=("weights that start too large", "a recurrent net over many steps"),
            remedies=(
                Remedy(text="start with smaller weights, or normalise between layers"),
                Remedy(text="clip the gradient", code="torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"),
            ),
            exhibits=exhibits,
        )
        return uncertain(found, spread, near(_answer(top, EXPLODING), _answer(top / last, EXPLODING_RATIO)))
    return None


def _answer(value: float, limit: float, *, above: bool = True) -> Edge:
    return Edge(name="the loss's answer", value=value, limit=limit, error=SEEDS * value, above=above)


def _near_vanished(first: float, factor: float) -> str:
    """Of what makes it a failure; a factor is the root of a ratio over all layers, which no seed moves by much."""
    return near(_answer(first, VANISHED, above=False)) if factor >= FACTOR else ""


def _near_size(steps: Gradients) -> str:
    """Of a gradient that passes: one that shrinks all the way back and has nearly vanished, or has nearly exploded."""
    sizes = [value for _, value in _relatives(steps)]
    if len(sizes) < 3:
        return ""
    top, first, last = max(sizes), sizes[0], sizes[-1]
    rising = sum(b > a for a, b in itertools.pairwise(sizes)) / (len(sizes) - 1)
    shrinks = first < 1e-2 * top and rising >= 0.7 and (top / first) ** (1 / (len(sizes) - 1)) >= FACTOR
    said = near(_answer(first, VANISHING, above=False)) if shrinks else ""
    return said or near(_answer(top, EXPLODING), _answer(top / last, EXPLODING_RATIO))


def _at(row: ParameterGradients, detail: str) -> Place:
    place = row.place or Place(name=row.name)
    return dataclasses.replace(place, name=row.name, detail=detail)


def _bars(steps: Gradients) -> tuple[Bars, ...]:
    rows = _relatives(steps)[:60]
    if not rows:
        return ()
    return (
        Bars(
            title="How the loss answers to each weight matrix",
            x_label="|gradient| x |weight| / |loss|",
            labels=tuple(row.name for row, _ in rows),
            values=tuple(value for _, value in rows),
            guides=(Guide(label="vanishing", value=VANISHING),),
            log=True,
        ),
    )
