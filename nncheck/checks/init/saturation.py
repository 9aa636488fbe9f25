"""Activations stuck where they are flat.

What it does
    Takes the mean derivative of every hidden tanh, sigmoid, hardtanh, GELU, SiLU and the like, over its largest value, and the
    entropy of every softmax attention over the most it could have, wherever they are called.
Why it matters
    Where an activation is flat no gradient passes. An attention that starts out looking at one place learns slowly where else
    to look.
How to fix
    Scale what goes in: standardise the inputs, initialise weights with `nn.init.xavier_uniform_(weight)`, put a normalisation
    before the activation. In attention divide the scores by the square root of the head's width. Replace a clamp before a
    binary cross-entropy by `BCEWithLogitsLoss` on the raw score, and a softmax between layers by a ReLU.
Known limits
    Measured before training. Gates (what multiplies another tensor), activations right before the loss and networks that were
    trained before are not judged: they may saturate for good reasons. In-place smooth activations hide their input and are left
    out. Attention rows with fewer than four allowed keys are not counted.
Source
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010); Vaswani et al.,
    "Attention Is All You Need" (2017), section 3.2.1; Zhai et al., "Stabilizing Transformer Training by Preventing Attention
    Entropy Collapse" (2023).
"""

import math

from nncheck.checks._near import Edge, near, near_either, share_error, uncertain
from nncheck.checks.init._activation_views import histogram, located, percent, spread_out, table
from nncheck.probes.activations import Activation, Activations, Attention
from nncheck.registry import check
from nncheck.verdict import (
    Bars,
    Exhibit,
    Guide,
    Remedy,
    Stage,
    Status,
    Verdict,
    failed,
    passed,
    skipped,
    warned,
)

# Mean derivative over its largest, for pre-activations of standard deviation s: tanh 0.61 (s=1), 0.37 (2), 0.26 (3), 0.08 (10);
# sigmoid 0.83, 0.61, 0.46, 0.16. Default nets measure 0.79 and more.
FLAT, STUCK = 0.25, 0.05
# Smooth activations with one flat side are flat on half of a centred input by design: only STUCK is judged. A softplus makes
# small positive numbers on purpose.
POSITIVE = ("softplus",)
# Entropy over the logarithm of the allowed keys, for unit queries and keys: 0.85 to 0.93 scaled, for 16 to 1024 keys; without
# the scale 0.36 (width 16), 0.15 (64), 0.10 (128). Where the scale is there, only what is almost one-hot is judged: embeddings of
# default size, multiplied by the root of their width as in "Attention Is All You Need", give 0.30 to 0.39 (width 32), and train.
PEAKED, ONE_HOT = 0.5, 0.2
# With torch's default Linear queries and keys are a third as strong: 0.65 to 0.5 without the scale for heads of 32 to 64,
# 0.95 and more with it. Scores that nothing scales are judged by this; T5 does without, its small weights keep it at 0.9.
UNSCALED = 0.7
# A clamp right before a loss on probabilities: what it clips gets no gradient. Guards such as clamp(eps, 1 - eps) clip nothing.
CLIPPED = 0.1
ON_PROBABILITIES = ("bce",)
# What another seed changes, as a part of the figure: slopes near FLAT by 0.02 to 0.03 (nets of 2 to 6 tanh layers, 20 seeds each);
# entropies by 0.01 in the median, 0.07 without a scale, and largest weights by 0.02 (15 examples, 5 seeds each).
SEEDS_SLOPE, SEEDS = 0.03, 0.05


@check(
    stage=Stage.INIT,
    after=("forward-pass", "finite-values"),
    consequence_of=("data-scale", "loss-broadcast", "symmetry", "dead-relu"),
)
def saturation(seen: Activations) -> Verdict:
    """Judge slopes and entropies, the worst first."""
    verdict = _judge(seen)
    parts = {"slope": SEEDS_SLOPE, "entropy": SEEDS, "top_weight": SEEDS}
    errors = {name: parts[name] * value for name, value in verdict.numbers.items() if name in parts}
    return uncertain(verdict, {**errors, "clipped": share_error(verdict.numbers.get("clipped", -1.0), seen.samples)})


def _slope(layer: Activation, limit: float) -> Edge:
    name = f"the slope of {layer.kind} at {layer.name}"
    return Edge(name=name, value=layer.slope, limit=limit, error=SEEDS_SLOPE * layer.slope, above=False)


def _entropy(attention: Attention, limit: float) -> Edge:
    name = f"the entropy of the attention at {attention.name}"
    return Edge(name=name, value=attention.entropy, limit=limit, error=SEEDS * attention.entropy, above=False)


def _judge(seen: Activations) -> Verdict:
    clipped = _clipped(seen)
    if clipped is not None:
        return clipped
    layers = [a for a in seen.activations if _counts(a)]
    attentions = [a for a in seen.attentions if math.isfinite(a.entropy)]
    if not layers and not attentions and not seen.softmaxes:
        return skipped("no hidden layer uses an activation that can saturate, nor an attention")
    if seen.trained:
        return skipped(f"the network was trained before ({seen.trained}): what looks stuck may be learned")
    flat = [a for a in layers if a.slope < _limit(a)]
    if flat:
        return _flat(flat, layers, attentions, seen)
    # One peaked layer may be the input's scale; a missing factor is missing in most. The upper median asks for most.
    ordered = sorted(attentions, key=lambda a: a.entropy)
    middle = ordered[len(ordered) // 2] if ordered else None
    if middle and middle.entropy < (ONE_HOT if middle.scaled else UNSCALED):
        return _peaked(ordered[: len(ordered) // 2 + 1], layers, attentions)
    if seen.softmaxes:
        place = seen.softmaxes[0]
        return warned(
            f"a softmax stands between two layers at {place.name}: its outputs share a sum of 1",
            expected="a hidden activation whose units are free of each other",
            summary=f"softmax used as a hidden activation ({place.name})",
            places=seen.softmaxes,
            causes=("the activation of the output was put on a hidden layer",),
            remedies=(Remedy(text=f"put a ReLU, GELU or tanh in the place of {place.name}"),),
            exhibits=_exhibits(layers, attentions),
        )
    said = [near_either(*(_slope(a, _limit(a)) for a in layers))]
    said += [near(_entropy(middle, ONE_HOT if middle.scaled else UNSCALED))] if middle else []
    return uncertain(_passed(layers, attentions), {}, next(filter(None, said), ""))


def _counts(a: Activation) -> bool:
    if a.role != "hidden" or not math.isfinite(a.slope) or a.kind in POSITIVE:
        return False
    # Of the rectifiers only a capped one can saturate; where it is stuck at zero, dead-relu says so.
    return a.family != "rectifier" or (a.kind == "relu6" and a.dead < 0.9)


def _limit(a: Activation) -> float:
    return FLAT if a.family == "bounded" and a.kind != "clamp" else STUCK


def _flat(flat: list[Activation], layers: list[Activation], attentions: list[Attention], seen: Activations) -> Verdict:
    # What saturates first feeds the others.
    first = next((a for a in flat if a.slope < STUCK), flat[0])
    status = Status.FAIL if first.slope < STUCK else Status.WARN
    say = failed if status is Status.FAIL else warned
    return say(
        f"the mean derivative of {first.kind} at {first.name} is {first.slope:.3g} of its largest"
        + (f"; {len(flat)} layers are below the limit" if len(flat) > 1 else "")
        + f" ({seen.samples} samples)",
        expected=f"at least {_limit(first):g}",
        summary=f"{first.kind} at {first.name} is saturated: {percent(first.slope)} of its gradient is left",
        numbers={"slope": first.slope},
        near=near_either(*(_slope(a, _limit(a)) for a in flat)) or near(_slope(first, STUCK)),
        places=tuple(located(a.place, a.name, f"{percent(a.slope)} of the slope") for a in flat),
        causes=(
            f"the weights of {first.layer or 'the layer before it'} are too large",
            "the inputs are not scaled (pixels of 0 to 255, raw measurements)",
        ),
        remedies=(
            Remedy(text="standardise the inputs", code="x = (x - x.mean(0)) / x.std(0)"),
            Remedy(
                text=f"initialise {first.layer or 'the layer before it'} to keep the variance",
                code="nn.init.xavier_uniform_(layer.weight)",
            ),
        ),
        exhibits=_exhibits(layers, attentions),
    )


def _peaked(peaked: list[Attention], layers: list[Activation], attentions: list[Attention]) -> Verdict:
    middle = peaked[-1]
    # One attention with its scale in place may be sharp for the size of its embeddings alone; it is worth a look.
    say = failed if middle.entropy < ONE_HOT and (not middle.scaled or len(attentions) > 1) else warned
    more = f"; {len(peaked)} of {len(attentions)} attentions are at or below it" if len(attentions) > 1 else ""
    return say(
        f"the attention at {middle.name} has {middle.entropy:.2f} of the largest possible entropy over {middle.keys} keys, "
        f"its largest weight is {middle.top:.2f} on average{more}",
        expected=f"at least {ONE_HOT if middle.scaled else UNSCALED:g} before training",
        summary=f"attention is {'almost one-hot' if middle.entropy < PEAKED else 'sharp'} before training: "
        f"entropy {middle.entropy:.2f} of 1" + ("" if middle.scaled else ", and nothing scales its scores"),
        numbers={"entropy": middle.entropy, "top_weight": middle.top},
        near=near(_entropy(middle, ONE_HOT if middle.scaled else UNSCALED)) or near(_entropy(middle, ONE_HOT)),
        places=tuple(located(a.place, a.name, f"entropy {a.entropy:.2f}") for a in peaked),
        causes=(
            "the scores are not divided by the square root of the head's width"
            if not middle.scaled
            else "the factor on the scores is not one over the square root of the head's width",
            "queries and keys are too large: no normalisation before the attention, or large embeddings",
        ),
        remedies=(
            Remedy(text="put a LayerNorm before the attention, or draw the embeddings smaller")
            if middle.scaled
            else Remedy(text="scale the scores", code="scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))"),
        ),
        exhibits=_exhibits(layers, attentions),
    )


def _clipped(seen: Activations) -> Verdict | None:
    for a in seen.activations:
        share = 1 - a.slope
        if a.family != "bounded" or a.kind not in ("clamp", "hardtanh") or a.feeds not in ON_PROBABILITIES:
            continue
        # A layer's own score leaves the range sooner or later; what a sigmoid made does not.
        if not (share > CLIPPED or a.raw):
            continue
        many = share > CLIPPED
        say = failed if many else warned
        return say(
            f"{percent(share)} of the outputs are clipped by {a.kind} at {a.name} before {a.feeds}"
            + ("" if many else "; what it clips is a layer's raw score"),
            expected=f"at most {percent(CLIPPED)} clipped, and a sigmoid before the loss",
            summary=f"{percent(share)} of the outputs are clipped to the edge and get no gradient"
            if many
            else f"a raw score is clipped to a probability: beyond the edge of {a.kind} it gets no gradient",
            numbers={"clipped": share},
            near=near(
                Edge(name="the clipped share", value=share, limit=CLIPPED, error=share_error(share, seen.samples))
            ),
            places=(located(a.place, a.name, "clips the raw score into the range of a probability"),),
            causes=("a raw score was forced between 0 and 1 to satisfy the loss",),
            remedies=(
                Remedy(
                    text="drop the clamp and take the loss on logits",
                    code="loss_fn = nn.BCEWithLogitsLoss()",
                ),
            ),
            exhibits=(histogram("Outputs after clipping", "output", [a], [f"{percent(share)} clipped"]),),
        )
    return None


def _passed(layers: list[Activation], attentions: list[Attention]) -> Verdict:
    texts, numbers = [], {}
    if layers:
        worst = min(layers, key=lambda a: a.slope)
        texts.append(
            f"the flattest activation keeps {percent(worst.slope)} of its slope ({worst.kind} at {worst.name})"
        )
        numbers["slope"] = worst.slope
    if attentions:
        peaked = min(attentions, key=lambda a: a.entropy)
        texts.append(f"the sharpest attention has {peaked.entropy:.2f} of the largest entropy ({peaked.name})")
        numbers["entropy"] = peaked.entropy
    return passed(
        "; ".join(texts),
        expected=f"slope at least {FLAT:g} ({STUCK:g} where one side is flat by design), entropy at least {ONE_HOT:g}",
        numbers=numbers,
        exhibits=_exhibits(layers, attentions),
    )


def _exhibits(layers: list[Activation], attentions: list[Attention]) -> tuple[Exhibit, ...]:
    exhibits: list[Exhibit] = []
    worst = sorted((a for a in layers if a.counts), key=lambda a: a.slope)
    if worst:
        notes = [f"{a.kind}, {percent(a.slope)} of the slope" for a in worst]
        exhibits.append(histogram("Activations by layer (the flattest first)", "output or slope", worst, notes))
    if layers:
        rows = [(a.name, a.kind, f"{a.slope:.3g}", a.layer) for a in layers]
        exhibits.append(table("Mean derivative over its largest", ("activation", "kind", "slope", "after layer"), rows))
    if attentions:
        shown = spread_out(attentions)
        exhibits.append(
            Bars(
                title="Attention entropy over the largest possible, in forward order",
                x_label="entropy",
                labels=tuple(a.name for a in shown),
                values=tuple(a.entropy for a in shown),
                guides=(Guide(label="too sharp below", value=ONE_HOT),),
            )
        )
    return tuple(exhibits)
