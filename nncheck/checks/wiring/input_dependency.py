"""Inputs that should matter do not, or padding that should not matter does.

What it does
    Exchanges each argument of the model between samples and compares the outputs bit by bit, in eval and in train mode; by one
    backward pass finds features, channels and positions that no output depends on, and exchanges these to be sure. Where a batch
    holds padding, runs its shorter sequences again with less of it: their outputs must stay.
Why it matters
    An index or slice that is off leaves most of the input unread, and the model learns what it can from the rest. Padding that is
    averaged or attended to makes the answer depend on the longest sequence that happens to share the batch.
How to fix
    Look at the slices and indices between the input and the first layer; hand every argument on to the layers it is meant for.
    Give attention `src_key_padding_mask` (bool, True where padded) or `attn_mask`; average with the mask and divide by the lengths;
    read a recurrent layer's output at each sequence's last step: `out[torch.arange(len(out)), lengths - 1]`.
Known limits
    One batch. Inputs that do not vary in it are not judged, nor pixels at the border of an image, nor steps beyond a receptive
    field. Of padding only that at the end is recognised; convolutions and two-way recurrent layers that read across the end of a
    sequence are left alone.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): use backprop to chart dependencies.
"""

from nncheck.probes.input_reach import ArgumentUse, AxisUse, InputReach
from nncheck.probes.padding import PaddingRuns
from nncheck.registry import check
from nncheck.verdict import Bars, Remedy, Stage, Verdict, failed, passed, warned

# One entry read of at least so many: an index where a whole axis was meant.
FEWEST = 4
# Masked padding moved outputs by 2e-7 of the largest, unmasked padding by 0.06.
PADDING = 1e-4
# What reads across the end of a sequence by its nature; the largest value of all steps may be one of padding by chance.
CROSSING = ("conv", "lstm", "gru", "rnn_", "max", "amax", "adaptive_max", "unfold")
EXPECTED = "outputs that depend on every input, and not on padding"


@check(
    stage=Stage.WIRING,
    after=("forward-pass", "finite-values"),
    consequence_of=("data-scale", "input-preview", "batch-mixing", "dead-relu", "saturation"),
)
def input_dependency(reach: InputReach, padding: PaddingRuns) -> Verdict:
    """Judge arguments, then what is inside of them, then padding."""
    unused = [use for use in reach.arguments if not use.used]
    moved = padding.padding is not None and padding.moved is not None and padding.moved > PADDING
    moved = moved and bool(padding.function) and not padding.function.startswith(CROSSING)
    # A mask that is not used is told by what it should have kept out.
    if unused and not (moved and len(unused) < len(reach.arguments)):
        return _unused(reach, unused)
    for use in reach.arguments:
        for axis in use.axes:
            if axis.kind != "pixels" and axis.varying >= FEWEST and axis.varying - len(axis.unused) == 1:
                return _one_of(use, axis)
            if axis.kind in ("features", "channels") and axis.unused:
                return _some(use, axis)
    if moved:
        return _padded(padding, tuple(use.name for use in unused))
    names = ", ".join(use.name for use in reach.arguments)
    told = _told(reach, padding)
    return passed(
        f"each of {len(reach.arguments)} argument(s) that vary ({names}) moves the outputs of {reach.samples} samples{told}",
        expected=EXPECTED,
        numbers={"arguments": float(len(reach.arguments)), "padding": padding.moved or 0.0},
    )


def _told(reach: InputReach, padding: PaddingRuns) -> str:
    """What is worth knowing and no fault."""
    text = f"; {', '.join(reach.constant)} is the same for every sample of the batch" if reach.constant else ""
    if reach.chosen:
        text += "; what is used is chosen by the data, so single entries were not asked"
    for use in reach.arguments:
        for axis in use.axes:
            if axis.unused:
                text += (
                    f"; {len(axis.unused)} of {axis.length} {axis.kind} of {use.name} (axis {axis.axis}) are never read"
                )
    if padding.padding is not None and padding.moved is not None:
        text += f"; with padding cut from {padding.padding.steps} to {padding.kept} outputs move by {padding.moved:.1g}"
    elif padding.padding is not None:
        text += "; the batch holds padding, but the model does not run with less of it"
    return text


def _unused(reach: InputReach, unused: list[ArgumentUse]) -> Verdict:
    names = " and ".join(use.name for use in unused)
    everything = len(unused) == len(reach.arguments)
    say = failed if everything else warned
    summary = f"no input reaches the output: {names} can be exchanged between samples" if everything else ""
    return say(
        f"exchanging {names} between {reach.samples} samples leaves every output the same to the bit, in eval and train mode",
        expected=EXPECTED,
        summary=summary or f"{names} is given to the model and never used",
        numbers={"arguments": float(len(reach.arguments)), "unused": float(len(unused))},
        causes=(
            "the argument is named in `forward` and not handed on",
            "what is made from it is overwritten, multiplied by zero or never joined with the rest",
        ),
        remedies=(
            Remedy(text=f"follow {unused[0].name} through `forward` and use it where it is meant to be"),
            Remedy(text="if it is not needed, take it out of the batch and of `forward`"),
        ),
        exhibits=(_bars(reach),),
    )


def _bars(reach: InputReach) -> Bars:
    return Bars(
        title="Which arguments move the outputs",
        x_label="1: it does",
        labels=tuple(f"{use.name} {use.shape}" for use in reach.arguments),
        values=tuple(1.0 if use.used else 0.0 for use in reach.arguments),
    )


def _one_of(use: ArgumentUse, axis: AxisUse) -> Verdict:
    single = next(k for k in range(axis.length) if k not in axis.unused)
    noun = axis.kind[:-1]
    return failed(
        f"of {axis.varying} {axis.kind} of {use.name} ({use.shape}, axis {axis.axis}) only number {single} moves an output",
        expected=EXPECTED,
        summary=f"only one {noun} of {use.name} is read, number {single} of {axis.length}",
        numbers={"unused": float(len(axis.unused)), "length": float(axis.length)},
        causes=(
            f"an index picks one {noun} where all were meant, as `x[:, {single}]`",
            "the output is read at the first step of a recurrent layer, which has seen nothing else",
        ),
        remedies=(
            Remedy(text=f"look at the indices on the way of {use.name} to the output; take the whole axis {axis.axis}"),
        ),
    )


def _some(use: ArgumentUse, axis: AxisUse) -> Verdict:
    shown = ", ".join(map(str, axis.unused[:8])) + (", ..." if len(axis.unused) > 8 else "")
    return warned(
        f"{len(axis.unused)} of {axis.varying} {axis.kind} of {use.name} ({use.shape}, axis {axis.axis}) can be exchanged between "
        f"samples without moving any output: {shown}",
        expected=EXPECTED,
        summary=f"{len(axis.unused)} of {axis.length} {axis.kind} of {use.name} are never used: {shown}",
        numbers={"unused": float(len(axis.unused)), "length": float(axis.length)},
        causes=("a slice between the input and the first layer ends too early or starts too late",),
        remedies=(
            Remedy(text=f"look at the slices of {use.name} in `forward` and let them cover axis {axis.axis}"),
            Remedy(text="if they are left out on purpose, leave them out of the data set"),
        ),
    )


def _padded(runs: PaddingRuns, unused: tuple[str, ...]) -> Verdict:
    padding = runs.padding
    assert padding is not None
    say = warned if padding.by == "token" else failed
    how = {
        "mask": f"the mask `{padding.name}`",
        "lengths": f"the lengths `{padding.name}`",
        "token": f"the padding token in {padding.name}",
    }[padding.by]
    return say(
        f"{runs.samples} sequences with padding up to {padding.steps} steps and cut to {runs.kept}: their outputs differ by up to "
        f"{runs.moved:.2g} of the largest, from `{runs.function}` on; {how} says where they end",
        expected="outputs that do not depend on the amount of padding, to 1e-4",
        summary=f"padding changes the outputs, from `{runs.function}` on",
        numbers={
            "moved": runs.moved or 0.0,
            "share": padding.share,
            "shortest": float(padding.shortest),
            "steps": float(padding.steps),
        },
        places=(runs.place,) if runs.place is not None else (),
        causes=(*(f"{name} is given to the model and never used" for name in unused), *_causes(runs.function)),
        remedies=(Remedy(text=_remedy(runs.function)),),
    )


def _causes(function: str) -> tuple[str, ...]:
    if function in ("softmax", "scaled_dot_product_attention", "multi_head_attention_forward"):
        return ("attention looks at padded positions: it is given no mask, or one of the other polarity or type",)
    if function in ("mean", "sum", "avg_pool1d", "adaptive_avg_pool1d"):
        return ("padded steps are counted in the average",)
    if function in ("__getitem__", "select", "squeeze"):
        return ("the last step of the padded sequence is read, not the last step of the sequence itself",)
    return (f"`{function}` takes in padded steps",)


def _remedy(function: str) -> str:
    if function in ("softmax", "scaled_dot_product_attention", "multi_head_attention_forward"):
        return "give attention a bool mask of the padding: `src_key_padding_mask=ids == pad` (True where padded)"
    if function in ("mean", "sum", "avg_pool1d", "adaptive_avg_pool1d"):
        return "average over the real steps: `(h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)`"
    if function in ("__getitem__", "select", "squeeze"):
        return "read each sequence at its own end: `out[torch.arange(len(out)), lengths - 1]`, or pack it"
    return "leave padded steps out by the mask before this line"
