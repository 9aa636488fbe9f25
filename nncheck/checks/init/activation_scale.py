"""What the samples have in common drowns what tells them apart.

What it does
    Follows the output of every weight layer through one batch: how much it varies over the samples, and how that compares with
    what all samples share. Looks again after a short run. Also says if the network has no non-linearity at all.
Why it matters
    If the last layer's output does not depend on the sample, neither does the gradient; if the scale grows or shrinks tenfold
    with every layer, the loss starts far off and the first and last layers need different learning rates.
How to fix
    Initialise each layer to keep the variance: `nn.init.kaiming_normal_(weight, nonlinearity="relu")` before a ReLU,
    `nn.init.xavier_uniform_(weight)` else, `nn.init.zeros_(bias)`. In a network of more than ten layers put a normalisation or
    a skip connection between them. Do not divide images by 255 twice. Put a non-linearity between linear layers.
Known limits
    One batch; only layers that end in the loss decide. Layers whose weights are zero on purpose (a zero-initialised head or
    branch) are judged after the short run. A normalisation sets the scale anew, so scales are compared after the last one only.
Source
    He et al., "Delving Deep into Rectifiers" (2015); Glorot and Bengio (2010); Mishkin and Matas, "All You Need Is a Good Init"
    (2016).
"""

import itertools
import math
from collections.abc import Sequence

from nncheck.checks._near import Edge, near, uncertain
from nncheck.checks.init._activation_views import (
    SMALL_INPUT,
    dependence,
    hidden_rectifiers,
    input_spread,
    located,
    percent,
    spread_out,
    table,
)
from nncheck.probes.activations import Activations, Scale
from nncheck.probes.trained_activations import TrainedActivations
from nncheck.registry import check
from nncheck.verdict import Bars, Exhibit, Guide, Remedy, Stage, Verdict, failed, passed, skipped, warned

# d = spread / (level + spread) of the output, the last layer's own bias taken off, against the steps of Adam(1e-3) to fit 32
# digits to a loss of 0.1, plain default-initialised layers: 6 ReLU layers 2e-2, 38 steps; 8: 5e-3, 46; 9 convolutions 4e-4,
# 136; 10: 7e-4, 79 to 208; 12: 1.2e-4, 265; 4 sigmoid layers 2e-4, 190; 16 ReLU layers 3e-6, 450; 6 sigmoid layers 3e-6, not in
# 600. Slow is no fault as long as it starts; below this it takes ten times as long as it should.
WEAK = 1e-4
# float32 has 1.2e-7: below this the network's answer is rounding.
NOTHING = 1e-5
# The data's own offset counts as the data's: d is judged against that of the input, if it is smaller.
OF_INPUT = 0.1
# Spread of the last layer over that of the first, or of the input. Default layers shrink by 0.33 to 0.6 each, Kaiming's keep it;
# weights of N(0, 1) grow it by the root of the width (7 at width 128), weights of 1e-3 shrink it to a hundredth.
GROWN, SHRUNK = 1e3, 1e-3
# Most layers growing or shrinking like this is an initialisation, not depth. One layer may: heads are often drawn small.
MOST_GROW, ALL_GROW = 3.0, 100.0
MOST_SHRINK = 0.1
# What another seed changes, as a part of the figure (15 examples, 5 seeds each): the dependence by 0.04 in the median and
# 0.17 at most, spreads by 0.02 to 0.05 and 0.17 at most.
SEEDS = 0.1
# Silent layers explain an output that stands still; dead-relu says so.
SILENT = 0.9
# All units of the layers fixed: the biases decide (see dead-relu).
FIXED = 0.9


@check(
    stage=Stage.INIT,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "input-preview",
        "data-scale",
        "batch-mixing",
        "input-dependency",
        "loss-broadcast",
        "symmetry",
        "dead-relu",
        "saturation",
    ),
)
def activation_scale(start: Activations, run: TrainedActivations) -> Verdict:
    """Judge the last layers' dependence on the sample, then the scale on the way there."""
    verdict = _judge(start, run)
    return uncertain(verdict, {name: SEEDS * abs(value) for name, value in verdict.numbers.items() if name != "layers"})


def _edge(name: str, value: float, limit: float, *, above: bool = True) -> Edge:
    return Edge(name=name, value=value, limit=limit, error=SEEDS * abs(value), above=above)


def _judge(start: Activations, run: TrainedActivations) -> Verdict:
    scales = [s for s in start.scales if math.isfinite(s.spread)]
    if not scales:
        return skipped(
            "every layer is given one sample at a time: there is nothing to compare"
            if start.scales
            else "no weight layer was seen in the forward pass"
        )
    if any(a.dead > SILENT for a in hidden_rectifiers(start)):
        return skipped("a ReLU layer is silent, so what follows it stands still: see dead-relu")
    now, later = _answer(start), _answer(run.after) if run.after else math.nan
    least = min(1.0, OF_INPUT * _given(start)) if math.isfinite(_given(start)) else 1.0
    known = [d for d in (now, later) if math.isfinite(d)]
    best = max(known, default=math.nan)
    if best < WEAK and best < least:
        faint = _constant(now, later, best, scales, start, run)
        share = "the share of the output that depends on the sample"
        said = near(_edge(share, best, min(WEAK, least), above=False)) or near(_edge(share, best, NOTHING, above=False))
        return uncertain(faint, {}, said)
    steps = _steps(scales)
    if len(steps) > 2 and not start.trained:
        verdict = _growth(steps, scales, later, run)
        if verdict is not None:
            return uncertain(verdict, {}, _near_growth(steps, start))
    if _biased(start, run):
        return _small_input(scales, start)
    if _wide(start.linear):
        return _no_bend(start, scales)
    said = near(
        _edge("the share of the output that depends on the sample", best, min(WEAK, least), above=False)
    ) or _near_growth(steps, start)
    return uncertain(_passed(now, scales, start), {}, said)


def _near_growth(steps: list[tuple[str, float]], start: Activations) -> str:
    """Of the plainest conditions of `_growth`: the last layer's spread over the first's, and over the input's."""
    if len(steps) <= 2 or start.trained:
        return ""
    own = steps[1:] if steps[0][0] == "the input" else steps
    total = steps[-1][1] / steps[0][1]
    ratios = sorted(b / a for (_, a), (_, b) in itertools.pairwise(steps))
    return (
        near(_edge("the growth of the spread", own[-1][1] / own[0][1], GROWN))
        or near(
            _edge("the growth of the spread", total, ALL_GROW),
            _edge("the growth in a layer", ratios[(len(ratios) - 1) // 2], MOST_GROW),
        )
        or near(
            _edge("the growth of the spread", total, SHRUNK, above=False),
            _edge("the growth in a layer", ratios[len(ratios) // 2], MOST_SHRINK, above=False),
        )
    )


def _answer(seen: Activations) -> float:
    """The largest dependence among the last layers; NaN if all of them are zero on purpose."""
    last = [s for s in seen.scales if s.output] or list(seen.scales[-1:])
    found = [dependence(s) for s in last if not s.zero]
    return max((d for d in found if math.isfinite(d)), default=math.nan)


def _given(seen: Activations) -> float:
    first = seen.scales[0]
    whole = first.given_spread + first.given_level
    return first.given_spread / whole if whole > 0 else math.nan


def _steps(scales: Sequence[Scale]) -> list[tuple[str, float]]:
    """Names and spreads from the last normalisation to the last layer; from the input if there is no normalisation."""
    last = next((s for s in reversed(scales) if s.output and not s.zero), None)
    if last is None:
        return []
    way = [s for s in scales[: scales.index(last) + 1] if s.segment == last.segment and not s.zero]
    steps = [(s.name, s.spread) for s in way]
    if way and way[0] is scales[0] and math.isfinite(way[0].given_spread):
        steps.insert(0, ("the input", way[0].given_spread))
    return [step for step in steps if step[1] > 0]


def _constant(
    now: float, later: float, best: float, scales: list[Scale], start: Activations, run: TrainedActivations
) -> Verdict:
    lost = next((s for s in scales if not s.zero and dependence(s) < WEAK), scales[-1])
    nothing = best < NOTHING
    say = failed if nothing else warned
    text = (
        f"{now:.2g} of the output depends on the sample" if math.isfinite(now) else "the last layer's weights are zero"
    )
    if math.isfinite(later):
        text += f", {later:.2g} after {run.updates} updates of {run.optimizer}"
    return say(
        text + f" (over {len(scales)} weight layers)",
        expected=f"at least {WEAK:g}",
        summary=("the output does not depend on the sample" if nothing else "the output hardly depends on the sample")
        + f": from {lost.name} on all samples look the same",
        numbers={"dependence": now, "dependence_after": later},
        places=(located(lost.place, lost.name, f"{dependence(lost):.2g} of its output depends on the sample"),),
        causes=(
            "the weights are so small that the biases decide every layer's output",
            "many plain layers with PyTorch's default initialisation: each passes on a third of the variation",
            "a normalisation's gain was set to zero",
        ),
        remedies=(
            Remedy(
                text="initialise every layer to keep the variance",
                code='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")\nnn.init.zeros_(layer.bias)',
            ),
            Remedy(text="put a normalisation or a skip connection between the layers"),
        ),
        exhibits=_exhibits(scales),
    )


def _growth(
    steps: list[tuple[str, float]], scales: list[Scale], later: float, run: TrainedActivations
) -> Verdict | None:
    ratios = [b / a for (_, a), (_, b) in itertools.pairwise(steps)]
    # Against the first layer: raw inputs may have any scale. Against the input only where each single layer does it.
    own = steps[1:] if steps[0][0] == "the input" else steps
    whole = own[-1][1] / own[0][1]
    total = steps[-1][1] / steps[0][1]
    mean = total ** (1 / len(ratios))
    middle = sorted(ratios)
    grows = whole > GROWN or (middle[(len(middle) - 1) // 2] > MOST_GROW and total > ALL_GROW)
    shrinks = total < SHRUNK and middle[len(middle) // 2] < MOST_SHRINK
    if not grows and not shrinks:
        return None
    worst = max(range(len(ratios)), key=lambda i: ratios[i] if grows else -ratios[i])
    jump = next(i for i, r in enumerate(ratios) if (r > MOST_GROW if grows else r < MOST_SHRINK) or i == worst)
    name = steps[jump + 1][0]
    scale = next(s for s in scales if s.name == name)
    word = "grows" if grows else "shrinks"
    unmended = shrinks and later < WEAK
    say = failed if unmended else warned
    return say(
        f"the spread over samples {word} from {steps[0][1]:.3g} ({steps[0][0]}) to {steps[-1][1]:.3g} ({steps[-1][0]}), "
        f"a factor of {mean:.2g} in each of {len(ratios)} layers"
        + (f"; after {run.updates} updates of {run.optimizer} it is no better" if unmended else ""),
        expected=f"the last layer's between {SHRUNK:g} and {GROWN:g} times the first's",
        summary=f"the scale {word} by a factor of {total:.2g} through the network, first at {name}",
        numbers={"ratio": total, "per_layer": mean},
        places=(located(scale.place, name, f"changes the spread by a factor of {ratios[jump]:.2g}"),),
        causes=(
            "weights drawn with one fixed standard deviation, whatever the layer's width"
            if grows
            else "weights drawn with a far too small standard deviation",
        ),
        remedies=(
            Remedy(
                text="initialise every layer to keep the variance",
                code='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")\nnn.init.zeros_(layer.bias)',
            ),
        ),
        exhibits=_exhibits(scales),
    )


def _biased(start: Activations, run: TrainedActivations) -> bool:
    def fixed(seen: Activations) -> bool:
        layers = [a for a in hidden_rectifiers(seen) if a.units >= 8]
        return bool(layers) and all(a.dead + a.always_on > FIXED for a in layers)

    return input_spread(start) < SMALL_INPUT and fixed(start) and (run.after is None or fixed(run.after))


def _small_input(scales: list[Scale], start: Activations) -> Verdict:
    given = input_spread(start)
    return warned(
        f"the inputs vary by {given:.2g}, the first layer's output by {scales[0].spread:.2g}: the biases decide the sign of "
        f"more than {percent(FIXED)} of all ReLU units",
        expected="inputs that vary by about 1",
        summary=f"the inputs vary by only {given:.2g}: next to the biases the network cannot tell samples apart",
        numbers={"input_spread": given},
        places=(located(scales[0].place, scales[0].name, "the first layer"),),
        causes=("the inputs were normalised twice, e.g. divided by 255 after `ToTensor` had done so",),
        remedies=(Remedy(text="scale the inputs once, to a standard deviation near 1", code="x = (x - mean) / std"),),
        exhibits=_exhibits(scales),
    )


def _wide(layers: Sequence[tuple[object, int, int]]) -> bool:
    """Two linear layers with nothing between that one could not do as well; a narrow middle is a low-rank model on purpose."""
    return any(hidden >= min(inputs, outputs) for (_, inputs, hidden), (_, _, outputs) in itertools.pairwise(layers))


def _no_bend(start: Activations, scales: list[Scale]) -> Verdict:
    return warned(
        f"{len(start.linear)} weight layers follow each other without any non-linearity",
        expected="a non-linearity between weight layers, or one layer",
        summary=f"the network is linear: {len(start.linear)} layers in a row compute what one could",
        numbers={"layers": float(len(start.linear))},
        places=tuple(located(p, p.name, f"{i} to {o}, nothing after it") for p, i, o in start.linear),
        causes=("the activation between the layers was forgotten, or made in `__init__` and never called",),
        remedies=(Remedy(text="put a ReLU, GELU or tanh after each hidden layer"),),
        exhibits=_exhibits(scales),
    )


def _passed(now: float, scales: list[Scale], start: Activations) -> Verdict:
    first, last = scales[0], scales[-1]
    text = f"the spread over samples is {first.spread:.2g} after {first.name} and {last.spread:.2g} after {last.name}"
    if math.isfinite(now):
        text += f"; {now:.2g} of the output depends on the sample"
    return passed(
        text,
        expected=f"more than {WEAK:g} of the output, no jump of {GROWN:g}",
        numbers={"dependence": now, "first": first.spread, "last": last.spread},
        exhibits=_exhibits(scales),
    )


def _exhibits(scales: list[Scale]) -> tuple[Exhibit, ...]:
    shown = spread_out([s for s in scales if s.spread > 0 and math.isfinite(s.spread)])
    rows = [
        (s.name, s.function, f"{s.spread:.2g}", f"{s.level:.2g}", "zero weights" if s.zero else f"{dependence(s):.2g}")
        for s in scales
    ]
    bars = Bars(
        title="Spread over the samples, layer by layer",
        x_label="standard deviation over samples",
        labels=tuple(s.name for s in shown),
        values=tuple(s.spread for s in shown),
        guides=(Guide(label="1", value=1.0),),
        log=True,
    )
    columns = ("layer", "kind", "spread over samples", "common part without bias", "share that depends on the sample")
    return (*((bars,) if shown else ()), table("Weight layers in forward order", columns, rows))
