"""ReLU units that are silent for every sample.

What it does
    Counts, for every ReLU (module, `F.relu`, `x.relu()`, `clamp(min=0)`, ReLU6, in any framework's model), the units that are
    zero on all samples and those that are above zero on all, before training and once more after a short run.
Why it matters
    A unit that is zero for every sample has no gradient and never comes back. A layer where every unit is either always zero
    or always on computes a linear function.
How to fix
    Take the constant or large negative bias off the layer before the ReLU, or initialise it with
    `nn.init.kaiming_normal_(weight, nonlinearity="relu")` and `nn.init.zeros_(bias)`; centre the inputs (subtract the mean,
    divide by the standard deviation); if the units died in the short run, lower the learning rate. Remove a ReLU that stands
    between the last layer and a loss that wants logits.
Known limits
    Units are counted over at most 512 samples. ReLUs that only multiply another tensor (gated units, squared ReLU) are not
    judged, those right before a loss only where it wants logits or where all are silent, nor are the partly silent layers of
    a network that was trained before. Deep networks with PyTorch's default initialisation have up to half of their units
    fixed at zero, and train; they pass.
Source
    Lu et al., "Dying ReLU and Initialization" (2019); CS231n notes on activation functions.
"""

import math

from nncheck.checks._near import Edge, near, share_error, uncertain
from nncheck.checks.init._activation_views import (
    SMALL_INPUT,
    dependence,
    hidden_rectifiers,
    histogram,
    input_spread,
    located,
    percent,
    table,
)
from nncheck.probes.activations import Activation, Activations
from nncheck.probes.trained_activations import TrainedActivations
from nncheck.registry import check
from nncheck.verdict import Exhibit, Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Above this the layer is as good as gone (TheDeepChecker, SageMaker and AutoTrainer alarm at 50 to 70 % of elements or units;
# units over 128 to 512 samples are stricter: healthy default nets reach 64 % when 20 layers deep, all others less).
GONE = 0.9
# Above this a layer has lost too much to chance. In a network whose units are fixed by an offset, dead and always-on units
# are a coin flip each; COIN standard errors beyond that say that something pushes the units down.
MANY = 0.4
COIN = 4.0
# Dead and always-on units together: measured 95 to 100 % in every layer for inputs of 100 +- 1, 0 to 30 % in the first layer
# of healthy networks of any depth. Only a network where every layer is like that is called linear.
FIXED = 0.9
# Newly dead after the short run: measured 0 % at Adam 1e-3, 27 % at 1e-2, 59 % at 3e-2 (the first that does not learn at once),
# 77 to 100 % at 0.1 and above, over 32 updates.
NEWLY_DEAD, MOSTLY_DEAD = 0.5, 0.7
# A layer whose output varies by less than this share of the most varied layer's is too faint for a bias to step with care.
# So is one of whose output samples share four fifths (images of noise, averaged by four convolutions: 0.17).
FAINT, COMMON = 0.01, 0.2
# The run is said to have learned if the loss fell below this share of its start.
LEARNED = 0.9
# Below so many units a share is an accident; with so few samples a unit may be silent by chance.
FEWEST_UNITS, FEWEST_SAMPLES = 8, 128
# Logits at exactly zero before a loss on logits: half of them at the start; a few are rounding.
ZERO_LOGITS = 0.1
ON_LOGITS = ("cross-entropy", "bce-with-logits", "multi-margin", "multilabel-soft-margin", "soft-margin")


@check(
    stage=Stage.INIT,
    after=("forward-pass", "finite-values"),
    consequence_of=("input-preview", "data-scale", "loss-broadcast", "symmetry", "double-softmax"),
)
def dead_relu(start: Activations, run: TrainedActivations) -> Verdict:
    """Judge the silent units before and after the short run."""
    output = _rectified_logits(start) or _silent_output(start)
    if output is not None:
        return output
    layers = hidden_rectifiers(start)
    if not layers:
        return skipped("no hidden layer uses a ReLU")
    later = {a.name: a for a in hidden_rectifiers(run.after)} if run.after else {}
    # Trained ReLU networks are sparse on purpose: in those only a layer without a single live unit is judged.
    gone = [a for a in layers if a.dead > (GONE if not start.trained else 1 - 1e-9) and a.values >= 16]
    if gone:
        return _gone(gone[0], len(gone), start, run, later)
    if start.trained:
        return _passed(start, run, later)
    judged = [a for a in layers if a.units >= FEWEST_UNITS and _enough(a, start)]
    after = [(a, later[a.name]) for a in judged if a.name in later]
    faint = [b.name for a, b in after if _faint(a, start)]
    died = [(a, b) for a, b in after if b.dead - a.dead > NEWLY_DEAD and b.dead > _coin(b) and a.name not in faint]
    unlearned = not run.last_loss < LEARNED * run.first_loss
    if died and unlearned:
        return _died(died, start, run, later)
    pushed = [a for a in judged if a.dead > max(MANY, _coin(a)) and later.get(a.name, a).dead > MANY]
    if pushed:
        worst = max(pushed, key=lambda a: a.dead)
        return _silent(worst, start, run, later)
    judged = [a for a in judged if a.kind != "relu6" or a.slope > 1 - FIXED]  # capped everywhere: saturation says so
    fixed = bool(judged) and all(_fixed(a) > FIXED and _fixed(later.get(a.name, a)) > FIXED for a in judged)
    # An input that hardly varies leaves the answer to the biases; activation-scale says so.
    if fixed and not input_spread(start) < SMALL_INPUT:
        return _linear(judged, start, run, later)
    said = [_near_pushed(a, later.get(a.name, a)) for a in judged]
    said += [_near_died(a, b) for a, b in after if unlearned and a.name not in faint]
    said += [near(_dead(a, GONE)) for a in layers if a.values >= 16]
    return uncertain(_passed(start, run, later), {}, next(filter(None, said), ""))


def _dead(layer: Activation, limit: float) -> Edge:
    error = share_error(layer.dead, layer.units)
    return Edge(name=f"the silent share of {layer.name}", value=layer.dead, limit=limit, error=error)


def _near_pushed(before: Activation, after: Activation) -> str:
    """Whether other weights may move the share of silent units over the limit or back: each unit is drawn by itself."""
    return near(_dead(before, max(MANY, _coin(before))), _dead(after, MANY))


def _fixed_edge(layer: Activation) -> Edge:
    fixed = _fixed(layer)
    return Edge(
        name=f"the share of units of {layer.name} that are fixed", value=fixed, limit=FIXED, error=share_error(fixed, layer.units)
    )  # fmt: skip


def _near_died(before: Activation, after: Activation) -> str:
    newly = after.dead - before.dead
    error = share_error(max(0.0, newly), after.units)
    name = f"the newly silent share of {after.name}"
    return near(Edge(name=name, value=newly, limit=NEWLY_DEAD, error=error), _dead(after, _coin(after))) or (
        near(Edge(name=name, value=newly, limit=MOSTLY_DEAD, error=error)) if newly > NEWLY_DEAD else ""
    )


def _enough(layer: Activation, seen: Activations) -> bool:
    return seen.whole or seen.samples >= FEWEST_SAMPLES or layer.values >= 4 * FEWEST_SAMPLES


def _fixed(layer: Activation) -> float:
    return layer.dead + layer.always_on


def _faint(layer: Activation, seen: Activations) -> bool:
    """Whether the layer before varies so faintly that any step of a bias decides the units: activation-scale's matter."""
    before = [s for s in seen.scales if s.name == layer.layer]
    widest = max((s.spread for s in seen.scales), default=0.0)
    return bool(before) and (before[0].spread < FAINT * widest or dependence(before[0]) < COMMON)


def _coin(layer: Activation) -> float:
    fixed = _fixed(layer)
    return fixed / 2 + COIN * math.sqrt(0.25 * fixed / layer.units)


def _gone(
    layer: Activation, count: int, start: Activations, run: TrainedActivations, later: dict[str, Activation]
) -> Verdict:
    measured = f"{_of(layer)} of {layer.name} are zero on all {start.samples} samples"
    return failed(
        measured + (f"; {count} layers are like this" if count > 1 else ""),
        expected=f"less than {percent(GONE)} of a layer's units silent",
        summary=f"{layer.name} is silent: {_of(layer)} are zero for every sample, and get no gradient",
        near=near(_dead(layer, GONE)) if not start.trained and count == 1 else "",
        numbers=_numbers(layer, start),
        spread=_spread(layer),
        places=_places(layer, "silent from here on"),
        causes=(
            f"the bias of {layer.layer or 'the layer before it'} is far below zero, or its input is",
            "weights, or a normalisation's gain, were set to zero",
        ),
        remedies=(_initialise(layer),),
        exhibits=_exhibits(start, run, later),
    )


def _died(
    died: list[tuple[Activation, Activation]],
    start: Activations,
    run: TrainedActivations,
    later: dict[str, Activation],
) -> Verdict:
    before, layer = max(died, key=lambda pair: pair[1].dead - pair[0].dead)
    newly = layer.dead - before.dead
    measured = (
        f"{_of(layer)} of {layer.name} are zero on all samples after {run.updates} updates of {run.optimizer}, "
        f"{percent(before.dead)} before; the loss went from {run.first_loss:.4g} to {run.last_loss:.4g}"
    )
    say = failed if newly > MOSTLY_DEAD else warned
    return say(
        measured,
        expected=f"at most {percent(NEWLY_DEAD)} newly silent",
        summary=f"{percent(newly)} of the units of {layer.name} died within {run.updates} updates",
        numbers={**_numbers(layer, start), "newly_dead": newly},
        spread={**_spread(layer), "newly_dead": share_error(max(0.0, newly), layer.units)},
        near=_near_died(before, layer),
        places=_places(layer, "silent after the short run"),
        # Steps too large for a run, or to fit one batch, are the root; and what makes them too large: a loss that is a sum.
        follows=("overfit-batch", "loss-at-init", "learning-rate", "update-ratio"),
        causes=(f"the steps of {run.optimizer} are too large: one of them pushes a unit's bias below all its inputs",),
        remedies=(Remedy(text="lower the learning rate tenfold, or let it rise over the first few hundred steps"),),
        exhibits=_exhibits(start, run, later),
    )


def _silent(layer: Activation, start: Activations, run: TrainedActivations, later: dict[str, Activation]) -> Verdict:
    measured = f"{_of(layer)} of {layer.name} are zero on all {start.samples} samples, {percent(layer.always_on)} are always on"
    return warned(
        measured,
        expected=f"at most {percent(MANY)} silent",
        summary=f"{percent(layer.dead)} of the units of {layer.name} are zero for every sample",
        near=_near_pushed(layer, later.get(layer.name, layer)) or near(_dead(layer, GONE)),
        numbers=_numbers(layer, start),
        spread=_spread(layer),
        places=_places(layer, "mostly silent"),
        causes=(f"the bias of {layer.layer or 'the layer before it'} is below most of its inputs' sums",),
        remedies=(_initialise(layer),),
        exhibits=_exhibits(start, run, later),
    )


def _linear(
    layers: list[Activation], start: Activations, run: TrainedActivations, later: dict[str, Activation]
) -> Verdict:
    first = layers[0]
    measured = (
        f"of {first.units} units of {first.name} {percent(first.dead)} are never and {percent(first.always_on)} always on; "
        f"all {len(layers)} ReLU layers are like this ({start.samples} samples)"
    )
    return warned(
        measured,
        expected=f"at most {percent(FIXED)} of the units fixed",
        summary="every ReLU unit is either always zero or always on: the network computes a linear function",
        near=near(*(_fixed_edge(a) for layer in layers for a in (layer, later.get(layer.name, layer)))),
        numbers=_numbers(first, start),
        spread=_spread(first),
        places=_places(first, "no unit changes sides"),
        causes=(
            "the inputs are far from zero compared with how much they vary, so one common offset decides each unit",
            "the biases are large compared with what the weights contribute",
        ),
        remedies=(Remedy(text="centre and scale the inputs", code="x = (x - x.mean(0)) / x.std(0)"),),
        exhibits=_exhibits(start, run, later),
    )


def _rectified_logits(start: Activations) -> Verdict | None:
    for layer in start.activations:
        zeros = 1 - layer.slope
        if layer.family == "rectifier" and layer.feeds in ON_LOGITS and zeros > ZERO_LOGITS:
            return failed(
                f"{percent(zeros)} of the logits are exactly zero: {layer.kind} at {layer.name} feeds {layer.feeds}",
                expected="logits of either sign",
                summary=f"a {layer.kind} stands between the last layer and {layer.feeds}: no logit can be negative",
                numbers={"zero_logits": zeros},
                places=(located(layer.place, layer.name, f"its result goes into {layer.feeds} as it is"),),
                causes=("the activation of the hidden layers was put behind the last layer too",),
                remedies=(Remedy(text=f"remove {layer.name}: the loss takes the last layer's output as it is"),),
            )
    return None


def _silent_output(start: Activations) -> Verdict | None:
    # Not judged by halves: a ReLU that keeps counts or prices above zero may be silent for some samples.
    for layer in start.activations:
        if layer.family == "rectifier" and layer.feeds and layer.dead == 1 and layer.values >= 16:
            return failed(
                f"the output is zero for all {start.samples} samples: {layer.kind} at {layer.name} feeds {layer.feeds}",
                expected="an output that differs between samples",
                summary=f"the output is silent: {layer.kind} at {layer.name} gives zero for every sample, and no gradient",
                places=(located(layer.place, layer.name, f"its result goes into {layer.feeds} as it is"),),
                causes=(
                    "the last layer starts below zero for every sample, and a ReLU behind it lets nothing through",
                ),
                remedies=(
                    Remedy(
                        text=f"remove the {layer.kind} ({layer.name}), or take a softplus if no output may be negative"
                    ),
                ),
            )
    return None


def _passed(start: Activations, run: TrainedActivations, later: dict[str, Activation]) -> Verdict:
    layers = hidden_rectifiers(start)
    worst = max(layers, key=lambda a: a.dead)
    text = f"at most {percent(worst.dead)} of a layer's units are silent on {start.samples} samples ({worst.name})"
    known = [a for a in later.values() if a.units]
    if known:
        text += f", {percent(max(a.dead for a in known))} after {run.updates} updates"
    return passed(
        text,
        expected=f"at most {percent(MANY)}, more where always-on units balance them",
        numbers=_numbers(worst, start),
        spread=_spread(worst),
        exhibits=_exhibits(start, run, later),
    )


def _of(layer: Activation) -> str:
    return f"{round(layer.dead * layer.units)} of {layer.units} units"


def _numbers(layer: Activation, start: Activations) -> dict[str, float]:
    return {"dead": layer.dead, "always_on": layer.always_on, "samples": float(start.samples)}


def _spread(layer: Activation) -> dict[str, float]:
    """Standard errors: the weights of each unit are drawn by themselves."""
    return {name: share_error(getattr(layer, name), layer.units) for name in ("dead", "always_on")}


def _places(layer: Activation, detail: str) -> tuple[Place, ...]:
    return (located(layer.place, layer.name, detail),)


def _initialise(layer: Activation) -> Remedy:
    before = layer.layer or "the layer before it"
    return Remedy(
        text=f"initialise {before} for a ReLU, with a bias of zero",
        code='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")\nnn.init.zeros_(layer.bias)',
    )


def _telling(before: Activation, after: Activation) -> Activation:
    return after if after.dead > before.dead + NEWLY_DEAD else before


def _exhibits(start: Activations, run: TrainedActivations, later: dict[str, Activation]) -> tuple[Exhibit, ...]:
    layers = hidden_rectifiers(start)
    shown = sorted((_telling(a, later.get(a.name, a)) for a in layers), key=lambda a: -a.dead)
    notes = [f"{percent(a.dead)} silent, {percent(a.always_on)} always on" for a in shown]
    rows = []
    for a in layers:
        after = later.get(a.name)
        rows.append(
            (
                a.name,
                str(a.units),
                percent(a.dead),
                percent(a.always_on),
                percent(after.dead) if after else "",
                percent(after.always_on) if after else "",
            )
        )
    return (
        histogram("How often each unit is on, by layer (the worst first)", "share of samples", shown, notes),
        table(
            f"Silent and always-on units, before and after {run.updates} updates",
            ("layer", "units", "silent", "always on", "silent after", "always on after"),
            rows,
        ),
    )
