"""Predictions are compared with targets that are not theirs.

What it does
    Compares the shapes that meet inside the loss, torch's or hand-written: (N, 1) against (N,) broadcasts to N x N pairs.
    Permutes the targets to see whether the loss notices. For logits with a time or pixel dimension, follows each score back
    to the layer that made it, and asks whether the scores of one prediction come from one position.
Why it matters
    Every prediction is pulled towards every target, so the outputs collapse to the mean: the loss stops near the variance of
    the targets. With the dimensions of the logits confused, the model learns a scrambled task. Neither raises an error.
How to fix
    Give both the same shape: `output.squeeze(1)` or `target.unsqueeze(1)`. Cross-entropy wants classes in dimension 1: use
    `logits.transpose(1, 2)` for (batch, time, classes), and move the classes last before a `view(-1, classes)`.
Known limits
    One batch. Hand-written losses are seen where they subtract or multiply predictions and targets. Shapes that were expanded on
    purpose, as in pairwise and quantile losses, are not reported as long as the loss notices whose target is whose. Scores that
    were computed with after their layer are not followed.
Source
    pytorch#16045, pytorch#18349 and dozens of forum threads on "Using a target size that is different to the input size".
"""

from nncheck.probes.target_pairing import Layout, Pairing, TargetPairing
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Table, Verdict, failed, passed, skipped

# The mean over all pairs does not change under a permutation except by rounding (float32 sums of N*N terms).
UNCHANGED = 1e-5


@check(stage=Stage.SETUP, after=("forward-pass",), part="loss_fn")
def loss_broadcast(seen: TargetPairing) -> Verdict:
    """Judge what met what inside the loss."""
    for pairing in seen.pairings:
        if pairing.targets_vary and (pairing.changed is None or pairing.changed < UNCHANGED):
            return _broadcast(pairing)
    for layout in seen.layouts:
        if layout.mixed and _misread(layout):
            return _misplaced(layout)
    if seen.layouts:
        first = seen.layouts[0]
        return passed(
            f"{first.kind} of {_shape(first.logits)}: the scores of each of {first.rows} predictions come from one position "
            f"of `{first.layer.name}`",
            expected="one position for each prediction",
            numbers={"positions": float(first.touched)},
        )
    if seen.compared and seen.expanded:
        return passed(f"{seen.compared[-1]} broadcast to more pairs than there are of either: taken as meant")
    if seen.compared:
        return passed(f"no broadcasting in {seen.compared[-1]}", expected="one target for each prediction")
    if seen.pairings:
        return passed("predictions and targets broadcast, and the loss depends on which target is whose")
    return skipped("no loss of torch's was called, and no prediction met a target by broadcasting")


def _misread(layout: Layout) -> bool:
    """Scores along one other dimension of the layer's output may be meant as classes (a layer over time whose channels are
    the classes) unless that dimension is as long as the classes: only then does a confusion go unnoticed. A dimension is
    only meant for classes as a whole: pieces of a longer one are neighbouring positions, e.g. four pixels of a row."""
    others = [length for d, length in enumerate(layout.layer_shape) if d != layout.feature_dim]
    if layout.swapped < layout.mixed or layout.logits[1] not in others:
        return True
    return layout.layer_shape.count(layout.layer_shape[layout.feature_dim]) > 1


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _broadcast(pairing: Pairing) -> Verdict:
    output, target, result = map(_shape, (pairing.output, pairing.target, pairing.result))
    pairs = _count(pairing.result)
    fix = _squeeze(pairing)
    measured = f"predictions {output} meet targets {target} in {pairing.how!r}: {pairs} pairs of shape {result}"
    if pairing.changed is not None:
        measured += f"; permuting the targets changes the loss by {pairing.changed:.1g} of itself"
    return failed(
        measured,
        expected=f"{_count(pairing.output)} pairs, each prediction with its own target",
        summary=f"the loss compares every prediction with every target: {output} against {target} broadcasts to {result}",
        numbers={"pairs": float(pairs)} | ({"changed": pairing.changed} if pairing.changed is not None else {}),
        places=(pairing.place,),
        causes=(
            "two shapes that hold the same values but for a dimension of length 1 are expanded against each other",
        ),
        remedies=(Remedy(text=f"give both the same shape: {fix}", code=f"loss = loss_fn({fix})"),),
        exhibits=(
            Table(
                title="What meets in the loss",
                columns=("", "shape", "values"),
                rows=(
                    ("predictions", output, str(_count(pairing.output))),
                    ("targets", target, str(_count(pairing.target))),
                    ("compared", result, str(pairs)),
                ),
            ),
        ),
    )


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _squeeze(pairing: Pairing) -> str:
    """The call with one side brought to the other's shape."""
    output, target = pairing.output, pairing.target
    longer = output if len(output) > len(target) else target
    singles = [d for d, length in enumerate(longer) if length == 1]
    if _count(target) == output[0] != _count(output):
        return f"output, target.reshape(-1{', 1' * (len(output) - 1)})"
    if len(output) == len(target):
        return "output, target.reshape(output.shape)"
    if len(singles) != 1:
        return "output.reshape(target.shape), target" if longer is output else "output, target.reshape(output.shape)"
    return f"output.squeeze({singles[0]}), target" if longer is output else f"output, target.squeeze({singles[0]})"


def _misplaced(layout: Layout) -> Verdict:
    logits, made = _shape(layout.logits), _shape(layout.layer_shape)
    swapped = layout.swapped == layout.mixed and len(layout.logits) == len(layout.layer_shape)
    last = len(layout.layer_shape) - 1
    if swapped:
        summary = f"{layout.kind} takes dimension 1 of {logits} for the classes, but `{layout.layer.name}` puts them elsewhere"
        cause = "the class dimension and another one are equally long, so that torch cannot notice the exchange"
        fix = Remedy(
            text="move the classes to dimension 1 before the loss",
            code="loss = loss_fn(logits.movedim(-1, 1), target)"
            if layout.feature_dim == last
            else "loss = loss_fn(logits, target)  # as the layer made them, classes in dimension 1",
        )
    else:
        summary = f"a view or reshape mixes the scores of {layout.touched} positions into one prediction"
        cause = f"`{layout.layer.name}` gives {made} with classes in dimension {layout.feature_dim}; views move none"
        fix = Remedy(
            text="move the classes last before flattening",
            code=f"logits.movedim({layout.feature_dim}, -1).reshape(-1, classes)",
        )
    return failed(
        f"the scores of {layout.mixed} of {layout.rows} predictions come from several positions of `{layout.layer.name}`: "
        f"one target reaches {layout.touched} positions",
        expected="one position for each prediction",
        summary=summary,
        numbers={"mixed": float(layout.mixed), "rows": float(layout.rows), "positions": float(layout.touched)},
        places=(layout.place, layout.layer),
        causes=(cause,),
        remedies=(fix,),
        exhibits=(
            Table(
                title="Where the scores of one prediction come from",
                columns=("", "shape"),
                rows=((f"output of {layout.layer.name}", made), (f"given to {layout.kind}", logits)),
            ),
        ),
    )
