"""Where the data of a batch meet the first parameters of a network: what a model's first layers are really given.

Followed forward from the batch's own tensors through every function without parameters (a model's own scaling, views, one-hot
codes), up to the first that has some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nncheck.lab import batch as batches
from nncheck.observe.source import layer_place
from nncheck.observe.watch import Call
from nncheck.verdict import Place

NORMS = (
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "native_layer_norm",
    "native_group_norm",
)
# Each multiplies what it is given with its parameters, so that the scale and offset of the input become those of its output.
LINEAR = (
    "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum", "tensordot", "bilinear",
    "multi_head_attention_forward",
)  # fmt: skip
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
EMBEDDINGS = ("embedding", "embedding_bag")
# A model of many inputs meets its parameters in many places; so many are kept.
MOST = 8
# What scales with its input, so that a normalisation behind it undoes the input's scale all the same.
_SCALING = (
    "relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "adaptive_avg_pool2d", "boolean_dispatch", "dropout", "dropout_", "dropout2d",
)  # fmt: skip
# What takes numbers out of its first argument.
_PICKS = ("__getitem__", "index_select", "gather", "take_along_dim")
# What only takes a size from the data.
_MADE = ("zeros", "ones", "empty", "full", "arange", "rand", "randn", "eye")
# What leaves the numbers alone.
_MOVES = (
    "view", "reshape", "flatten", "permute", "transpose", "contiguous", "unsqueeze", "squeeze", "movedim", "to", "float", "cuda",
    "cpu", "double", "half", "type", "detach", "clone",
)  # fmt: skip


@dataclass(kw_only=True)
class Entrance:
    """One function with parameters that was given data of the batch.

    roots: names of the batch's tensors the data come from. layer: dotted name of the module. function: torch's name for it.
    kind: "linear", "conv", "recurrent", "embedding", "norm" or "other". tensor: what it was given. width: rows of an embedding.
    normalised: the next thing its output meets, but for ReLU and pooling, is a normalisation. statistics: of that BatchNorm's
    input in this batch: (mean, variance), with the running ones it had before: (mean, variance).
    changed: whether anything was done to the values of the batch's tensor on the way.
    """

    roots: tuple[str, ...]
    layer: str
    function: str
    kind: str
    place: Place | None
    tensor: Tensor
    width: int
    changed: bool
    normalised: bool = False
    statistics: tuple[Tensor, Tensor, Tensor, Tensor] | None = None


@dataclass(kw_only=True)
class _Data:
    """A tensor made of the batch alone. It is kept, so that its id stays its own."""

    tensor: Tensor
    roots: tuple[str, ...]
    changed: bool


@dataclass(kw_only=True)
class Entrances:
    """Give `see` to a watch around one forward pass of `model` on `batch`."""

    model: nn.Module
    batch: Any
    found: list[Entrance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._data: dict[int, _Data] = {}
        for name, tensor in batches.named_tensors(self.batch):
            self._data[id(tensor)] = _Data(tensor=tensor, roots=(name,), changed=False)
        # Parameters, and what is made of parameters alone (a normalised weight).
        self._weights: dict[int, Tensor] = {id(p): p for p in self.model.parameters()}
        self._outputs: dict[int, tuple[Tensor, Entrance]] = {}
        self._running: dict[int, tuple[Tensor, Tensor]] = {}
        for module in self.model.modules():
            mean, variance = getattr(module, "running_mean", None), getattr(module, "running_var", None)
            if isinstance(mean, Tensor) and isinstance(variance, Tensor):
                self._running[id(mean)] = (mean.detach().clone(), variance.detach().clone())

    def see(self, call: Call) -> None:
        """Follow one call."""
        given = list(_tensors(call.args, call.kwargs))
        data = [self._data[id(t)] for t in given if id(t) in self._data]
        if not data:
            if given and all(id(t) in self._weights for t in given):
                for tensor in _tensors((call.result,), {}):
                    self._weights[id(tensor)] = tensor
            else:
                self._follow_output(call, given)
            return
        roots = tuple(dict.fromkeys(name for one in data for name in one.roots))
        weights = [t for t in given if id(t) in self._weights]
        if not weights:
            if call.name in _MADE or call.name.endswith("_like") or call.name.startswith("new_"):
                return  # made in the shape of the data, not of them
            if call.name in _PICKS and id(given[0]) not in self._data:
                return  # picked by the data, from something else: a recurrent layer's zeros, put in the order of lengths
            changed = any(one.changed for one in data) or call.name not in _MOVES
            for tensor in _tensors((call.result,), {}):
                if id(tensor) not in self._data:
                    self._data[id(tensor)] = _Data(tensor=tensor, roots=roots, changed=changed)
            return
        largest = max(data, key=lambda one: one.tensor.numel())
        if largest.tensor.numel() and len(self.found) < MOST and isinstance(call.result, (Tensor, tuple)):
            entrance = Entrance(
                roots=roots,
                layer=call.layer,
                function=call.name,
                kind=_kind(call.name),
                place=layer_place(self.model, call.layer) or call.place(),
                tensor=largest.tensor.detach(),
                width=weights[0].size(0) if weights[0].ndim else 0,
                changed=largest.changed,
            )
            self.found.append(entrance)
            for tensor in _tensors((call.result,), {}):
                self._outputs[id(tensor)] = (tensor, entrance)

    def roots_of(self, tensor: Tensor) -> tuple[str, ...]:
        """Names of the batch's tensors that a tensor was made of, without any parameter; empty if it was not."""
        known = self._data.get(id(tensor))
        return known.roots if known is not None else ()

    def _follow_output(self, call: Call, given: list[Tensor]) -> None:
        """Whether the first layer's output goes straight into a normalisation."""
        if not given or id(given[0]) not in self._outputs:
            return
        entrance = self._outputs[id(given[0])][1]
        if call.name in NORMS:
            entrance.normalised = True
            if call.name == "batch_norm" and entrance.statistics is None:
                running = next((self._running[id(t)] for t in given if id(t) in self._running), None)
                if running is not None and given[0].ndim > 1:
                    x = given[0].detach().double().movedim(1, 0).flatten(1)
                    entrance.statistics = (x.mean(1), x.var(1, correction=0), *running)
        elif call.name in (*_MOVES, *_SCALING) and isinstance(call.result, Tensor):
            self._outputs[id(call.result)] = (call.result, entrance)


def _kind(function: str) -> str:
    if function in NORMS:
        return "norm"
    if function in EMBEDDINGS:
        return "embedding"
    if function in RECURRENT:
        return "recurrent"
    if function in LINEAR:
        return "linear"
    return "conv" if function.startswith("conv") else "other"


def _tensors(args: Any, kwargs: Mapping[str, Any], depth: int = 0) -> Iterator[Tensor]:
    """The tensors among a function's arguments, those in lists and tuples too."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)) and depth < 2:
            yield from _tensors(value, {}, depth + 1)


def feature_axis(kind: str, tensor: Tensor) -> int:
    """The axis along which a layer tells features apart: channels of a convolution, else the last."""
    return 1 if kind == "conv" and tensor.ndim > 2 else tensor.ndim - 1
