"""Every activation function, attention and weight layer of the forward pass, wherever it is called: streaming sums only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall
from nncheck.observe.collector import Collector
from nncheck.observe.dataflow import Flow
from nncheck.observe.pretrained import learned_already, trained_before
from nncheck.observe.source import layer_place
from nncheck.observe.streams import AttentionStream, ScaleStream, UnitStream
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# Few samples settle most: more samples can only find fewer dead and fewer always-on units, so the count goes on to the 512
# that a verdict needs (five in a hundred units of a healthy layer are silent on 32 samples, none on 1024) only while some
# layer is above SETTLED. The pass limits keep tiny batches affordable.
FIRST_SAMPLES, FIRST_PASSES = 128, 4
ENOUGH_SAMPLES, MOST_PASSES = 512, 16
SETTLED = 0.4
# Relative error of float32 over a few layers; a ReLU between random layers is 0.1 and more away from its chord.
ROUNDING = 1e-3

Role = Literal["hidden", "output", "gate", "aside"]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One activation function at one place.

    layer: the weight layer before it. role: `output` if no weights follow before the loss, `gate` if it multiplies another
    tensor, `aside` if no gradient of the loss comes by. feeds: the loss that takes its result as it is, if one does; `raw`: it
    stands between a weight layer and that loss, and nothing else does.
    dead, always_on: shares of the `units` that are zero, or above zero, on every value seen; NaN where the kind has no zero.
    slope: mean derivative over its largest value; NaN if it cannot be told. values: how many values of each unit were seen.
    edges, counts: histogram: of each unit's share of positive values (rectifier), of the results (bounded), of the slopes.
    """

    name: str
    layer: str
    kind: str
    family: str
    place: Place
    role: Role
    feeds: str
    units: int
    values: int
    dead: float
    always_on: float
    slope: float
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    raw: bool = False


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One softmax attention: entropy over the logarithm of the number of allowed keys, mean largest weight.

    scaled: whether anything multiplies the scores, or the queries or keys, before the softmax.
    """

    name: str
    place: Place
    heads: int
    keys: int
    entropy: float
    top: float
    scaled: bool


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One weight layer's output on one batch.

    spread: root mean variance over samples. level: mean size of what all samples have in common, the layer's own bias taken off.
    given_spread, given_level: the same of its input; NaN but for the first layer, and for one that takes integers.
    segment: how many normalisations ran before it. output: whether no weights follow before the loss. zero: its weights are 0.
    """

    name: str
    place: Place
    function: str
    spread: float
    level: float
    given_spread: float
    given_level: float
    segment: int
    output: bool
    zero: bool


@dataclass(frozen=True, kw_only=True)
class Activations:
    """What the network's insides looked like over `samples` samples, in forward order; `whole`: they are the whole epoch.

    trained: why the network is thought to have been trained before, or "".
    softmaxes: softmax functions that stand as a hidden activation between two layers.
    linear: (place, inputs, outputs) of each layer if the network has no non-linearity at all.
    """

    samples: int
    whole: bool
    trained: str
    activations: tuple[Activation, ...]
    attentions: tuple[Attention, ...]
    scales: tuple[Scale, ...]
    softmaxes: tuple[Place, ...]
    linear: tuple[tuple[Place, int, int], ...]


@probe
def activations(sandbox: Sandbox) -> Activations:
    """The untrained network."""
    return measure(sandbox)


def measure(sandbox: Sandbox) -> Activations:
    """Forward passes in train mode, from the network's present state; afterwards it is as the user left it."""
    collector = Collector(sandbox.model, sandbox.setup.origins.get("model"))
    samples, whole = 0, False
    with sandbox.trial():
        before = trained_before(sandbox)
        for index in range(MOST_PASSES):
            held = sandbox.feed.take(index + 1)
            if len(held) <= index:
                whole = sandbox.feed.ended
                break
            size = batches.size(held[index])
            collector.start(size)
            outcome = sandbox.forward(held[index], index=index, calls=(collector.see,))
            samples += size
            if index == 0:
                flow = Flow(outcome.loss)
                before = before or learned_already(outcome.calls)
                seen = _read(collector, flow, outcome.calls)
                chain = flow.linear_chain()
                del flow
                collector.first = False
            del outcome
            if samples >= ENOUGH_SAMPLES:
                break
            if (samples >= FIRST_SAMPLES or index + 1 >= FIRST_PASSES) and _settled(collector.units.values()):
                break
        roles, attentions, softmaxes, outputs = seen
        scales = tuple(_scale(s, s.name in outputs) for s in collector.scales.values())
    linear = _linear(sandbox, chain) if len(chain) > 1 and not _bends(sandbox, chain[-1]) else ()
    return Activations(
        samples=samples,
        whole=whole,
        trained=before,
        activations=tuple(_activation(s, *roles[s.name]) for s in collector.units.values()),
        attentions=attentions,
        scales=scales,
        softmaxes=softmaxes,
        linear=linear,
    )


_Read = tuple[dict[str, tuple[Role, str, bool]], tuple[Attention, ...], tuple[Place, ...], set[str]]


def _read(collector: Collector, flow: Flow, losses: tuple[LossCall, ...]) -> _Read:
    """What the graph says of the streams; afterwards they no longer hold it."""
    roles: dict[str, tuple[Role, str, bool]] = {}
    for unit in collector.units.values():
        roles[unit.name] = _role(unit, flow, losses)
        unit.node = None
    attentions, softmaxes = [], []
    for attention in collector.attentions.values():
        node, attention.node = attention.node, None
        if not flow.reaches_loss(node):
            continue
        if node.name().startswith("Softmax") and not flow.weighs_values(node):
            if flow.between_layers(node):
                softmaxes.append(attention.place)
            continue
        if node.name().startswith("Softmax"):
            attention.scaled = flow.scales_scores(node)
        found = _attention(attention)
        if found is not None:
            attentions.append(found)
    for place, node in collector.softmaxes:
        if flow.reaches_loss(node) and flow.between_layers(node):
            softmaxes.append(place)
    collector.softmaxes.clear()
    outputs = set()
    for scale in collector.scales.values():
        if scale.node in flow.near_loss:
            outputs.add(scale.name)
        scale.node = None
    return roles, tuple(attentions), tuple(softmaxes), outputs


def _role(unit: UnitStream, flow: Flow, losses: tuple[LossCall, ...]) -> tuple[Role, str, bool]:
    node = unit.node
    if not unit.trains or not flow.reaches_loss(node):
        return "aside", "", False
    if node in flow.near_loss:
        feeds = next((call.kind for call in losses if flow.same_values(node, call.input)), "")
        return "output", feeds, bool(feeds) and flow.on_a_layer(node)
    some, every = flow.gates(node)
    # A sigmoid or tanh that multiplies anything is a gate. A rectifier may be weighted by one (squeeze and excitation) and
    # still be a layer's output; where it does nothing but multiply (gated linear units, squared ReLU) it is part of a gate.
    return ("gate" if (every if unit.kind.family == "rectifier" else some) else "hidden"), "", False


def _settled(units: Iterable[UnitStream]) -> bool:
    shares = []
    for unit in units:
        if unit.active is not None:
            shares.append(((unit.active == 0).float().mean(), (unit.active == unit.count).float().mean()))
    if not shares:
        return True
    worst = torch.stack([torch.stack([dead, dead + on - 0.5]) for dead, on in shares]).max()
    return bool(worst <= SETTLED)


def _activation(unit: UnitStream, role: Role, feeds: str, raw: bool) -> Activation:
    dead = always_on = math.nan
    edges: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    units = 0
    if unit.active is not None:
        rate = (unit.active.double() / max(1, unit.count)).cpu()
        units = rate.numel()
        dead, always_on = float((rate == 0).double().mean()), float((rate == 1).double().mean())
        counts, edges = _histogram(torch.histc(rate, bins=20, min=0.0, max=1.0), 0.0, 1.0)
    elif unit.histogram is not None:
        bounded = unit.kind.family == "bounded"
        counts, edges = _histogram(unit.histogram, *((unit.kind.low, unit.kind.high) if bounded else (0.0, 1.0)))
    return Activation(
        name=unit.name,
        layer=unit.layer,
        kind=unit.kind.name,
        family=unit.kind.family,
        place=unit.place,
        role=role,
        feeds=feeds,
        units=units,
        values=unit.count,
        dead=dead,
        always_on=always_on,
        slope=float(torch.stack(unit.slopes).mean()) if unit.slopes else math.nan,
        edges=edges,
        counts=counts,
        raw=raw,
    )


def _histogram(counts: Tensor, low: float, high: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    bins = counts.numel()
    return tuple(counts.tolist()), tuple(low + (high - low) * i / bins for i in range(bins + 1))


def _attention(stream: AttentionStream) -> Attention | None:
    if stream.entropy is None or stream.top is None or stream.weight is None or not float(stream.weight):
        return None
    weight = float(stream.weight)
    return Attention(
        name=stream.name,
        place=stream.place,
        heads=stream.heads,
        keys=stream.keys,
        entropy=float(stream.entropy) / weight,
        top=float(stream.top) / weight,
        scaled=stream.scaled,
    )


def _scale(stream: ScaleStream, output: bool) -> Scale:
    return Scale(
        name=stream.name,
        place=stream.place,
        function=stream.function,
        spread=_number(stream.spread),
        level=_number(stream.level),
        given_spread=_number(stream.given_spread),
        given_level=_number(stream.given_level),
        segment=stream.segment,
        output=output,
        zero=stream.has_weight is not None and not bool(stream.has_weight),
    )


def _number(value: Tensor | None) -> float:
    return math.nan if value is None else float(value)


def _bends(sandbox: Sandbox, last: Tensor) -> bool:
    """Whether what reaches the last layer is no affine function of the inputs, or that cannot be told.

    The graph does not show what is detached: a rounding behind a straight-through estimator bends, and has no node.
    """
    given: list[Tensor] = []

    def note(call: Call) -> None:
        if any(argument is last for argument in call.args[1:]) and isinstance(call.args[0], Tensor):
            given.append(call.args[0].detach().double())

    first = sandbox.feed.first
    with sandbox.trial(mode="eval"):
        for share in (0.0, 1.0, 0.5):
            sandbox.forward(batches.with_inputs(first, partial(_towards_mirror, share)), calls=(note,))
    if len(given) != 3 or len({t.shape for t in given}) != 1:
        return True
    one, other, middle = given
    apart = (middle - (one + other) / 2).abs().max()
    return bool(apart > ROUNDING * torch.stack([one, other]).abs().max())


def _towards_mirror(share: float, _: str, tensor: Tensor) -> Tensor:
    return torch.lerp(tensor, tensor.flip(0), share) if tensor.is_floating_point() and tensor.ndim else tensor


def _linear(sandbox: Sandbox, chain: tuple[Tensor, ...]) -> tuple[tuple[Place, int, int], ...]:
    names = {id(p): n for n, p in sandbox.model.named_parameters()}
    layers = [(names.get(id(w), ""), w.shape) for w in chain]
    return tuple((layer_place(sandbox.model, n.rpartition(".")[0] or n), shape[1], shape[0]) for n, shape in layers)
