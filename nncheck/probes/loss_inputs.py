"""What every loss function of torch's was given: logits, log-probabilities or probabilities, and what made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall, classes, place_of
from nncheck.observe.lineage import Node, back_through_moves, node_name, sources
from nncheck.observe.source import layer_place, located
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

_PRODUCERS = {
    "softmax": "softmax", "log_softmax": "log_softmax", "sigmoid": "sigmoid", "sigmoid_": "sigmoid", "special_expit": "sigmoid",
    "hardsigmoid": "sigmoid", "logsigmoid": "logsigmoid", "log_sigmoid": "logsigmoid", "softmin": "softmax",
}  # fmt: skip
_NODES = {
    "SoftmaxBackward": "softmax", "LogSoftmaxBackward": "log_softmax", "SigmoidBackward": "sigmoid",
    "HardsigmoidBackward": "sigmoid", "LogSigmoidBackward": "logsigmoid",
}  # fmt: skip
# Clamping probabilities away from 0 and 1 leaves them probabilities.
_CLAMPS = ("Clamp",)
BINS = 24


@dataclass(frozen=True, kw_only=True)
class Producer:
    """An activation function: its name, where the user calls or makes it, and the dimension it works along, if any."""

    name: str
    place: Place
    dim: int | None


@dataclass(frozen=True, kw_only=True)
class LossInput:
    """The input of one loss call of the first batch.

    kind: the loss. classes: the length of its class dimension, 1 without one. rows: predictions.
    low, high: the extremes of its values. row_sums_off: the largest distance of a row's sum from 1.
    log_sums_off, log_sums_high: the largest distance from 0 of the logarithm of the sum of a row's exponentials, and the largest
    of these logarithms; all 0 for log-probabilities.
    made_by: the activation whose result the input is, and before: the one whose result that was made from.
    connected: whether the input has a gradient; target_connected: whether the target has.
    """

    kind: str
    place: Place
    classes: int
    rows: int
    low: float
    high: float
    row_sums_off: float
    log_sums_off: float
    log_sums_high: float
    made_by: Producer | None
    before: Producer | None
    connected: bool
    target_connected: bool
    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """The inputs of all loss calls of one forward pass on the first batch in train mode, in order."""

    inputs: tuple[LossInput, ...]


@probe
def loss_inputs(sandbox: Sandbox) -> LossInputs:
    """One forward pass with its graph, which tells what made each loss's input."""
    producers: dict[Node, Producer] = {}

    def note(call: Call) -> None:
        name = _PRODUCERS.get(call.name)
        if name is None or not isinstance(call.result, Tensor) or call.result.grad_fn is None:
            return
        built_in = call.module is not None and type(call.module).__module__.startswith("torch.nn")
        own = layer_place(sandbox.model, call.layer) if built_in and call.layer else call.place()
        place = located(own, sandbox.setup.origins.get("model"))
        producers[call.result.grad_fn] = Producer(name=name, place=place, dim=_dimension(call))

    with sandbox.trial():
        outcome = sandbox.forward(sandbox.feed.first, calls=(note,))
        return LossInputs(
            inputs=tuple(
                _look(call, producers, place_of(call, sandbox.setup.origins))
                for call in outcome.calls
                if call.input.numel()
            )
        )


def _dimension(call: Call) -> int | None:
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    if not isinstance(dim, int) or not isinstance(call.result, Tensor):
        return None
    return dim % max(1, call.result.ndim)


def _look(call: LossCall, producers: dict[Node, Producer], place: Place) -> LossInput:
    made_by, before = _makers(call.input, producers, place)
    with torch.no_grad():
        values = call.input.detach().double()
        dimension = 1 if values.ndim > 1 else 0
        sums = values.sum(dimension)
        logs = torch.logsumexp(values, dimension)
        low, high = float(values.min()), float(values.max())
        width = high - low or 1.0
        finite = bool(torch.isfinite(values).all())
        counts = torch.histc(values, bins=BINS, min=low, max=low + width) if finite else torch.zeros(BINS)
        return LossInput(
            kind=call.kind,
            place=place,
            classes=classes(call),
            rows=sums.numel(),
            low=low,
            high=high,
            row_sums_off=float((sums - 1).abs().max()),
            log_sums_off=float(logs.abs().max()),
            log_sums_high=float(logs.max()),
            made_by=made_by,
            before=before,
            connected=call.input.requires_grad,
            target_connected=call.target.requires_grad,
            edges=tuple(low + width * i / BINS for i in range(BINS + 1)) if finite else (),
            counts=tuple(counts.tolist()) if finite else (),
        )


def _makers(input: Tensor, producers: dict[Node, Producer], place: Place) -> tuple[Producer | None, Producer | None]:
    """The activation whose result an input is, and the one before that, each told by its node of the graph."""
    found: list[Producer | None] = []
    node: Any = input.grad_fn
    for _ in range(2):
        maker: Producer | None = None
        for passed in back_through_moves(node, _CLAMPS):
            node = passed
            name = next((said for start, said in _NODES.items() if node_name(passed).startswith(start)), None)
            if name is not None:
                maker = producers.get(passed) or Producer(name=name, place=place, dim=None)
                break
        found.append(maker)
        if maker is None:
            break
        node = next(iter(sources(node)), None)
    return found[0], found[1] if len(found) > 1 else None
