"""Units of a layer, or layers that should differ, start equal.

What it does
    Compares the rows (output units) of every weight matrix at the start and after a few steps of the user's optimizer. Compares
    the layers of every class that sets a seed itself.
Why it matters
    Units with equal weights compute the same and get the same gradient: a layer of 256 of them is worth one. Two factors
    that are both zero (LoRA's A and B, both convolutions of a residual branch) never get a gradient at all. A seed set in a
    block's `__init__` makes all blocks start as copies, and every other random number after it the same again.
How to fix
    Start hidden weights at random (`nn.init.kaiming_normal_`, or leave PyTorch's default); keep zeros for biases, norm
    shifts, the last layer, and one factor of a product only. Set the seed once, before the model is made.
Known limits
    Judged layer by layer. One zero-initialised layer (a zero head, LoRA's B, adaLN-zero) is fine, as it leaves zero with
    the first steps. Layers that are copies of each other, as in `nn.TransformerEncoder`, are not reported.
Source
    Goodfellow, Bengio and Courville, "Deep Learning" (2016), section 8.4: initial parameters must break the symmetry.
"""

import dataclasses

from nncheck.probes.gradients import Gradients, ParameterGradients
from nncheck.probes.seeded_layers import Seeded, SeededLayers
from nncheck.probes.unreached import Unreached
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Table, Verdict, failed, passed, skipped, warned

# Equal rows say something of layers that mix all their inputs into every unit. Embeddings, positions, queries and tokens of
# equal start are told apart by what arrives at them, and depthwise kernels see one channel each.
_DENSE = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d", "LazyLinear", "LazyConv2d", "RNN", "LSTM", "GRU", "RNNCell",
                    "LSTMCell", "GRUCell", "Bilinear", "NonDynamicallyQuantizableLinear"})  # fmt: skip


@check(stage=Stage.INIT, after=("forward-pass", "finite-values"))
def symmetry(steps: Gradients, found: Unreached, seeded: SeededLayers) -> Verdict:
    """Judge rows that are equal now, and those that stay equal; then layers that a seed makes equal."""
    rows = [r for r in steps.trainable if r.alike_before is not None]
    if not rows:
        return skipped("no weight matrix with two units or more")
    equal = [r for r in rows if r.alike_before]
    measured = f"{len(equal)} of {len(rows)} weight matrices start with all units equal"
    expected = "none, except zeros that leave zero with the first steps"
    numbers = {"matrices": float(len(rows)), "equal": float(len(equal))}
    if len(steps.losses) < 3:
        return skipped("fewer than three steps could be taken", measured=measured)
    places = {name: b for b in found.branches for name in b.names}
    stuck = [r for r in equal if _stuck(r) and not (r.name in places and places[r.name].zeroed)]
    if len(stuck) == 1 and not _dense(stuck[0]):
        stuck = []  # a table by itself is no product: position biases over a single key have no gradient by construction
    equal_still = [r for r in equal if r.alike_after and not r.silent and r.reached and _dense(r) and any(r.peaks)]
    last = next((r.name for r in reversed(rows) if r.reached), "")
    constant = [r for r in equal if _dense(r) and r.weight[0] > 0 and r.name != last and r.shape[0] > 3 and r.reached]
    table = _table(equal)
    if stuck or equal_still:
        faults = stuck or equal_still
        zero = faults is stuck
        say = "start at zero and never get a gradient" if zero else "keep all units equal after training steps"
        return failed(
            f"{measured}; {len(faults)} {say}",
            expected=expected,
            summary=f"{_some(faults)} {say}" + ("" if zero else ": the layer is worth one unit"),
            numbers={**numbers, "stuck": float(len(faults))},
            places=_places(faults, found),
            causes=(
                ("both factors of a product start at zero", "hidden weights are initialised to zero")
                if zero
                else ("hidden weights are initialised to one constant",)
            ),
            remedies=_remedies(faults[0]),
            exhibits=table,
        )
    if constant:
        return warned(
            f"{measured}; hidden and not zero: {len(constant)}",
            expected=expected,
            summary=f"all units of {_some(constant)} start equal: the layer computes one feature {constant[0].shape[0]} times",
            numbers=numbers,
            places=_places(constant, found),
            causes=("hidden weights are initialised to one constant",),
            remedies=_remedies(constant[0]),
            exhibits=table,
        )
    if seeded.found:
        return _seeded(seeded.found[0], measured, numbers)
    if equal:
        measured += "; their units differ after the first steps" if not any(r.alike_after for r in equal) else ""
    return passed(measured, expected=expected, numbers=numbers)


def _seeded(layers: Seeded, measured: str, numbers: dict[str, float]) -> Verdict:
    count = len(layers.names)
    return warned(
        f"{measured}; {count} layers {layers.kind} have the same {layers.matrices} random matrices ({layers.size:,} numbers) bit "
        f"for bit: {', '.join(layers.names[:4])}{'...' if count > 4 else ''}",
        expected="random weights of its own for each layer",
        summary=f"{count} layers {layers.kind} start with equal weights: {layers.kind} sets the seed itself",
        numbers={**numbers, "layers": float(count)},
        places=(layers.place,),
        causes=(f"every {layers.kind} that is made starts the random numbers from the same seed",),
        remedies=(Remedy(text=f"take the seed out of {layers.kind}; set it once, before the model is made"),),
    )


def _stuck(row: ParameterGradients) -> bool:
    """At zero from start to end, with a gradient of exactly zero: nothing will ever move it."""
    return row.silent and row.weight[0] == 0 and row.weight[-1] == 0


def _dense(row: ParameterGradients) -> bool:
    # A depthwise kernel has one input channel to a unit: (channels, 1, ...).
    return row.kind in _DENSE and row.shape[1] > 1 and not row.layer.endswith("embedding")


def _places(rows: list[ParameterGradients], found: Unreached) -> tuple[Place, ...]:
    known = {name: b.place for b in found.branches for name in b.names}
    places = [known.get(r.name) or r.place or Place(name=r.name) for r in rows]
    return tuple(
        dataclasses.replace(p, name=r.name, detail=f"{r.shape[0]} equal units of {r.kind}")
        for r, p in zip(rows, places, strict=False)
    )


def _remedies(row: ParameterGradients) -> tuple[Remedy, ...]:
    return (
        Remedy(
            text="start hidden weights at random",
            code=f"nn.init.kaiming_normal_(model.{row.name})",
        ),
    )


def _some(rows: list[ParameterGradients]) -> str:
    return ", ".join(r.name for r in rows[:2]) + (f" and {len(rows) - 2} more" if len(rows) > 2 else "")


def _table(rows: list[ParameterGradients]) -> tuple[Table, ...]:
    if not rows:
        return ()
    cells = tuple(
        (r.name, str(list(r.shape)), "zero" if r.weight[0] == 0 else "constant", "yes" if r.alike_after else "no")
        for r in rows[:40]
    )
    return (Table(title="Equal units", columns=("weights", "shape", "start", "still equal at the end"), rows=cells),)
