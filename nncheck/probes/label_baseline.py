"""What the labels alone allow: the best constant prediction, its loss, and the updates it takes to get there."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import (
    CLASSIFICATION,
    REGRESSION,
    LossCall,
    classes,
    floor,
    per_element,
    place_of,
    soft_targets,
    target_distribution,
)
from nncheck.losses.label_luck import all_targets, drawn_anew, error_of_constant, rows_of, unusual_target
from nncheck.losses.levels import best_constant
from nncheck.losses.starting import describe_options, uninformed
from nncheck.observe.lineage import Node, added_leaves, back_through_moves
from nncheck.observe.source import layer_place, located
from nncheck.registry import probe
from nncheck.verdict import Place

# Labels and batches looked at. 2,000 labels give a share of 5 % to within half a percent.
LABELS = 2_000
BATCHES = 20
# Updates of the output layer that are simulated at most, and how near to the constant they must come.
UPDATES = 1_000
# Multiplications spent on them: a second or so.
WORK = 100_000_000
NEAR = 1.05
# They are simulated where the loss is so many times that of the constant.
FAR = 1.25
# Longer biases are not simulated or written out; a table of shares stays readable.
WIDEST = 1_000
# Tensors of data that the first layers are given, at most.
INPUTS = 4
BINARY = ("bce", "bce-with-logits")
_HEADS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


@dataclass(frozen=True, kw_only=True)
class LabelBaseline:
    """The best constant for the targets of the first batches. `kind` is "" where no loss with a known constant was called.

    labels: targets used. several: more than one prediction a sample. distinct, largest_label, rarest: of class labels, with
    the count of the rarest that was seen. mixed_order: whether batches hold more than one label, as a shuffled loader's do.
    unusual: why nobody sets the bias by these targets ("reconstruction", "language model", "soft targets"); "" otherwise.
    loss: of the first batch. drawn: the same outputs' loss if their labels were drawn from all that were seen (NaN if unknown).
    constant: the best constant's loss for all labels, and error: its standard error; here: for the first batch's labels only.
    lowest: what perfect predictions would reach on the first batch.
    zero: the loss of the output zero. bias: the outputs of the best constant. shares: of labels, or rates, or means.
    now: the mean outputs of the first batch. spread: of the outputs over samples. deviation: of the targets.
    head: where the output layer is made; head_name, head_has_bias, head_type. For numbers that are summed up behind the last
    layer it is the parameter among the summands ("Parameter"), which does what a bias does.
    updates: of the output layer alone, with the user's optimizer, until the loss is within 5 % of the constant; None if unknown.
    """

    kind: str
    place: Place | None
    options: str
    labels: int
    several: bool
    classes: int
    distinct: int
    largest_label: int
    rarest: int
    mixed_order: bool
    unusual: str
    loss: float
    drawn: float
    lowest: float
    error: float
    constant: float
    here: float
    zero: float
    bias: tuple[float, ...]
    shares: tuple[float, ...]
    now: tuple[float, ...]
    spread: float
    head: Place | None
    head_name: str
    head_type: str
    head_has_bias: bool
    updates: int | None

    def head_code(self, width: int) -> str:
        """The head with another number of outputs, as code."""
        return (
            f"{spelled(self.head_name)} = nn.{self.head_type}(..., {width})"
            if self.head_name
            else f"num_classes = {width}"
        )


def spelled(name: str) -> str:
    """`model.blocks[0].head` for `blocks.0.head`."""
    text = "model"
    for part in name.split("."):
        text += f"[{part}]" if part.isdigit() else f".{part}"
    return text


_NOTHING = LabelBaseline(
    kind="", place=None, options="", labels=0, several=False, classes=1, distinct=0, largest_label=-1, rarest=0, mixed_order=False,
    unusual="", loss=math.nan, drawn=math.nan, lowest=0.0, error=0.0, constant=math.nan, here=math.nan,
    zero=math.nan, bias=(), shares=(), now=(), spread=0.0, head=None, head_name="",
    head_type="", head_has_bias=False, updates=None,
)  # fmt: skip


@probe
def label_baseline(sandbox: Sandbox) -> LabelBaseline:
    """One forward pass to see the loss and the output layer; the labels of further batches need none."""
    heads: dict[Node, tuple[str, nn.Module, Tensor]] = {}
    data: list[Tensor] = []

    def see(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if len(data) < INPUTS:
            data.extend(t for t in inputs if isinstance(t, Tensor) and not t.requires_grad)
        if isinstance(module, _HEADS) and inputs and isinstance(output, Tensor) and output.grad_fn is not None:
            heads[output.grad_fn] = (name, module, inputs[0].detach())

    batch = sandbox.feed.first
    with sandbox.trial():
        outcome = sandbox.forward(batch, modules=(see,))
        call = next((c for c in outcome.calls if c.input.requires_grad and best_constant(c) is not None), None)
        if call is None or sum(c.kind == call.kind for c in outcome.calls) != 1:
            return _NOTHING
        # BCE's bias is set before its sigmoid.
        also = ("Sigmoid",) if call.kind == "bce" else ()
        own = next((heads[node] for node in back_through_moves(call.input.grad_fn, also) if node in heads), None)
        target = all_targets(sandbox, call, LABELS, BATCHES)
        found = best_constant(call, target)
        if found is None:
            return _NOTHING
        bias, constant = found
        # The loss of the first batch against the constant's on the same labels, so that both see the same luck of the draw.
        here = _at(call, bias)
        with torch.no_grad():
            first = per_element(call)
            blank = uninformed(call)
            zero = drawn_anew(call, target, blank)
            if math.isnan(zero):
                zero = per_element(dataclasses.replace(call, input=blank))
            bottom = floor(dataclasses.replace(call, options={**call.options, "reduction": "mean"}))
        outputs = rows_of(call)
        labels = _labels(call, target)
        counts = torch.bincount(labels, minlength=1) if labels is not None and len(labels) else None
        seen = counts[counts > 0] if counts is not None else None
        if labels is not None and len(labels) and call.kind in CLASSIFICATION:
            bias = bias.clamp_min(math.log(0.5 / len(labels)))  # a class not seen is rare, not impossible
        name, module = own[:2] if own else ("", None)
        shift = "" if own or call.kind not in REGRESSION else _shift(sandbox.model, call, bias.numel())
        name = name or shift
        return LabelBaseline(
            kind=call.kind,
            place=place_of(call, sandbox.setup.origins),
            options=describe_options(call),
            labels=len(labels) if labels is not None else target.numel(),
            several=call.target.numel() > batches.size(batch)
            and call.kind in CLASSIFICATION
            and not soft_targets(call),
            classes=classes(call) if call.kind in CLASSIFICATION else 1,
            distinct=len(seen) if seen is not None else 0,
            largest_label=int(labels.max()) if labels is not None and len(labels) else -1,
            rarest=int(seen.min()) if seen is not None and len(seen) else 0,
            mixed_order=labels is not None and _mixed(labels, batches.size(batch)),
            unusual=unusual_target(sandbox, call, data),
            loss=first,
            drawn=drawn_anew(call, target),
            lowest=bottom[0] if bottom is not None else 0.0,
            error=error_of_constant(call, target, bias) if call.kind in (*CLASSIFICATION, *BINARY) else 0.0,
            constant=constant,
            here=here,
            zero=zero,
            bias=tuple(bias.tolist()) if bias.numel() <= WIDEST else (),
            shares=_shares(call, target, counts),
            now=tuple(outputs.mean(0).tolist()) if outputs.size(1) <= WIDEST else (),
            spread=float(outputs.std(0, correction=0).mean()),
            head=located(layer_place(sandbox.model, name), sandbox.setup.origins.get("model")) if name or own else None,
            head_name=name,
            head_type=type(module).__name__ if module is not None else "Parameter" if shift else "",
            head_has_bias=bool(shift) or getattr(module, "bias", None) is not None,
            updates=_updates(sandbox, call, target, constant, own)
            if (own or shift) and first > FAR * constant
            else None,
        )


def _shift(model: nn.Module, call: LossCall, width: int) -> str:
    """The name of a trainable parameter of `width` numbers that is added to every output; "" without one."""
    leaves = {id(leaf) for leaf in added_leaves(call.input.grad_fn)}
    return next((n for n, p in model.named_parameters() if id(p) in leaves and p.numel() == width), "")


def _labels(call: LossCall, target: Tensor) -> Tensor | None:
    if call.kind not in CLASSIFICATION or target.dtype.is_floating_point:
        return None
    labels = target.flatten()
    return labels[(labels != call.options.get("ignore_index", -100)) & (labels >= 0)].long()


def _mixed(labels: Tensor, size: int) -> bool:
    """Whether most batches hold several labels."""
    starts = range(0, len(labels), max(1, size))
    parts = [labels[i : i + size] for i in starts if i + 1 < len(labels)]
    mixed = sum(bool((part != part[0]).any()) for part in parts)
    return bool(parts) and mixed > len(parts) / 2


def _shares(call: LossCall, target: Tensor, counts: Tensor | None) -> tuple[float, ...]:
    """Label shares, positive rates or target means, at most `WIDEST` of them."""
    if counts is not None:
        shares = counts.double() / counts.sum()
    else:
        values = target.double()
        shares = (values if values.ndim == 2 else values.reshape(-1, 1)).mean(0)
    return tuple(shares.tolist()) if shares.numel() <= WIDEST else ()


def _at(call: LossCall, bias: Tensor) -> float:
    """The mean loss of the call's own targets at a constant output; NaN where it does not fit."""
    with torch.no_grad():
        constant = _expanded(call, bias)
        if constant is None:
            return math.nan
        return per_element(dataclasses.replace(call, input=constant))


def _expanded(call: LossCall, bias: Tensor) -> Tensor | None:
    """A constant output in the shape of the call's input."""
    shape = [1] * call.input.ndim
    if bias.numel() > 1:
        dimension = 1 if call.kind in CLASSIFICATION and call.input.ndim > 1 else call.input.ndim - 1
        if call.input.size(dimension) != bias.numel():
            return None
        shape[dimension] = bias.numel()
    return bias.to(call.input.dtype).view(shape).expand_as(call.input)


def _updates(
    sandbox: Sandbox, call: LossCall, target: Tensor, constant: float, head: tuple[str, nn.Module, Tensor] | None
) -> int | None:
    """Updates of the output layer, from its present values and for its mean input, until the loss is within 5 % of the best.

    No pass of the model: its other layers stay, and all samples are taken to have the mean input.
    """
    start = rows_of(call).mean(0).float()
    if len(start) > WIDEST or call.kind == "bce":
        return None
    features = torch.zeros(1, device=start.device)
    if head is not None and isinstance(head[1], nn.Linear) and head[1].out_features == len(start):
        features = head[2].float().reshape(-1, head[1].in_features).mean(0)
    most = min(UPDATES, WORK // (len(start) * len(features) * 10 + 1))
    weight = nn.Parameter(torch.zeros(len(start), len(features), device=start.device))
    shift = nn.Parameter(torch.zeros_like(start))
    kind = type(sandbox.optimizer)
    group = sandbox.optimizer.param_groups[0]
    options = {k: v for k, v in group.items() if k in sandbox.optimizer.defaults}
    if "weight_decay" in options:
        options["weight_decay"] = 0.0
    try:
        optimizer = kind([weight, shift], **options)
    except (TypeError, ValueError):
        return None
    with torch.enable_grad():
        for done in range(most):
            if not done % 50:
                sandbox.check_time()
            loss = _flat(call, start + weight @ features + shift, target)
            if loss is None:
                return None
            if float(loss.detach()) <= NEAR * constant:
                return done
            optimizer.zero_grad()
            loss.backward()
            try:
                optimizer.step()
            except TypeError:  # it wants a closure
                return None
    return most if most == UPDATES else None


def _flat(call: LossCall, bias: Tensor, target: Tensor) -> Tensor | None:
    """The mean loss at a constant output, from the shares of the labels where there are classes."""
    if call.kind in CLASSIFICATION:
        rows = target_distribution(call, target)
        total = rows.sum(0)
        return -(total * bias.double().log_softmax(0)).sum() / total.sum()
    count = target.numel() // bias.numel()
    values = target.reshape(count, -1) if target.numel() == count * bias.numel() else None
    if values is None:
        return None
    values = values[:4096].to(bias.dtype)
    result: Tensor = call.again(bias.expand_as(values), values, reduction="mean")
    return result
