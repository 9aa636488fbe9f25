"""The ear at the watch: turns the torch calls of forward passes into streams of activations, scales and attentions."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.observe.activation_kinds import Kind, kind_of
from nncheck.observe.source import layer_place
from nncheck.observe.streams import (
    AttentionStream,
    ScaleStream,
    UnitStream,
    from_multi_head,
    from_scaled_dot_product,
    from_softmax,
    spread_and_level,
    take_in,
)
from nncheck.observe.watch import Call
from nncheck.verdict import Place

_LIBRARIES = tuple(str(Path(f).resolve().parent) + os.sep for f in (torch.__file__, __file__))

_CONVOLUTIONS = {f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)}
_CHANNELS_FIRST = _CONVOLUTIONS | {"batch_norm", "group_norm", "instance_norm"}
_CHANNELS_LAST = {"linear", "layer_norm", "rms_norm", "embedding", "bilinear", "multi_head_attention_forward"}
_MATRIX = {"matmul", "__matmul__", "__rmatmul__", "mm", "addmm", "bmm", "baddbmm", "einsum"}
_OWN_WEIGHT = _CONVOLUTIONS | {"linear", "embedding", "embedding_bag", "bilinear", "multi_head_attention_forward"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
# What sets a scale anew, written by hand too (x * rsqrt(mean(x^2)), x / x.norm(), x / x.std()).
_NORMS = {
    "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize", "local_response_norm", "rsqrt", "norm",
    "vector_norm", "linalg_norm", "std", "var", "var_mean", "std_mean", "weight_norm",
}  # fmt: skip
_ATTENTIONS: dict[str, Callable[[Call], tuple[Tensor, Tensor] | None]] = {
    "softmax": from_softmax,
    "scaled_dot_product_attention": from_scaled_dot_product,
    "multi_head_attention_forward": from_multi_head,
}


class Collector:
    """Streams by place of call, in the order of their first call. Calls from one line after one layer share a stream.

    samples: how many the present batch has. first: whether scales, attentions and graph nodes are still taken; they are
    taken from one batch, units from all. origin: where the user makes the model.
    """

    def __init__(self, model: nn.Module, origin: Place | None = None) -> None:
        self.units: dict[Any, UnitStream] = {}
        self.scales: dict[Any, ScaleStream] = {}
        self.attentions: dict[Any, AttentionStream] = {}
        self.softmaxes: list[tuple[Place, Any]] = []
        self.samples = 1
        self.first = True
        self._model = model
        self._origin = origin
        self._names: dict[tuple[str, str], int] = {}
        self.start(1)

    def start(self, samples: int) -> None:
        """A new batch of so many samples begins."""
        self.samples = samples
        self._axis = -1
        self._feeding = ""
        self._segment = 0

    def see(self, call: Call) -> None:
        """Handler for `Sandbox.forward(calls=...)`."""
        result = call.result[0] if isinstance(call.result, tuple) and call.result else call.result
        if not isinstance(result, Tensor) or not _readable(result):
            return
        name = call.name
        if name in _CHANNELS_FIRST:
            self._axis = 1
        elif name in _CHANNELS_LAST or name in _MATRIX:
            self._axis = -1
        if name in _NORMS:
            self._segment += 1
        try:
            with torch.no_grad():
                self._take(call, result)
        except RuntimeError:
            pass  # a dtype, layout or tensor subclass that torch cannot sum up: this one call goes unseen

    def _take(self, call: Call, result: Tensor) -> None:
        name = call.name
        if name in _OWN_WEIGHT or name in _RECURRENT or (name in _MATRIX and _parameter(call) is not None):
            self._scale(call, result)
        if self.first and name in _ATTENTIONS:
            self._attention(call, result)
            if name == "softmax" and result.ndim == 2:
                self.softmaxes.append((self._place(call), result.grad_fn))
        kind = kind_of(call)
        if kind is not None and kind.family != "softmax" and result.ndim > 0:
            self._unit(call, result, kind)

    def _unit(self, call: Call, result: Tensor, kind: Kind) -> None:
        key = self._key(call, result.shape[self._axis] if result.ndim > 1 else 1)
        stream = self.units.get(key)
        if stream is None:
            if not self.first:
                return  # what its result is used for is known of the first batch only
            stream = UnitStream(
                name=self._name("activation", call), layer=self._feeding, kind=kind, place=self._place(call),
                node=result.grad_fn, trains=result.requires_grad,
            )  # fmt: skip
            self.units[key] = stream
        stream.add(call.args[0] if call.args else None, result, self._axis if result.ndim > 1 else 0)

    def _scale(self, call: Call, result: Tensor) -> None:
        self._feeding = call.layer
        if not self.first:
            return
        key = self._key(call, result.shape[-1] if result.ndim else 1)
        if key in self.scales or result.ndim == 0:
            return  # a layer called in a loop: its first call is as good as any
        axis = 1 if call.name in _CONVOLUTIONS else -1
        bias = None
        if call.name in ("linear", *_CONVOLUTIONS):
            bias = call.args[2] if len(call.args) > 2 else call.kwargs.get("bias")
        weight = _parameter(call)
        stream = ScaleStream(
            name=self._name("scale", call),
            place=self._place(call),
            function=call.name,
            segment=self._segment,
            node=result.grad_fn,
        )
        stream.spread, stream.level = spread_and_level(result, samples=self.samples, bias=bias, axis=axis)
        given = call.args[0] if call.args else None
        if not self.scales and isinstance(given, Tensor) and given.is_floating_point() and _readable(given):
            stream.given_spread, stream.given_level = spread_and_level(given, samples=self.samples, axis=axis)
        if weight is not None:
            stream.has_weight = weight.detach().any()
        self.scales[key] = stream

    def _attention(self, call: Call, result: Tensor) -> None:
        found = _ATTENTIONS[call.name](call)
        if found is None:
            return
        scores, weights = found
        key = self._key(call, scores.shape[-1])
        stream = self.attentions.get(key)
        if stream is None:
            heads = scores.shape[-3] if scores.ndim > 3 else 1
            stream = self.attentions[key] = AttentionStream(
                name=self._name("attention", call), place=self._place(call), keys=scores.shape[-1], heads=heads,
                scaled=call.kwargs.get("scale") != 1, node=result.grad_fn,
            )  # fmt: skip
        take_in(stream, scores, weights)

    def _key(self, call: Call, size: int) -> Any:
        return call.layer, call.name, _site(), self._feeding, size

    def _name(self, kind: str, call: Call) -> str:
        plain = call.layer if call.module is not None and _is_one_call(call.module) else ""
        name = plain or f"{call.layer}.{call.name}".lstrip(".")
        count = self._names[kind, name] = self._names.get((kind, name), 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def _place(self, call: Call) -> Place:
        if call.layer and call.module is not None and _is_one_call(call.module):
            place = layer_place(self._model, call.layer, type(call.module).__name__)
        else:
            place = call.place(call.name)
        if place.file is None and self._origin is not None:  # all of it library code: the line that makes the model
            return dataclasses.replace(self._origin, name=place.name, detail=place.detail)
        return place


def _is_one_call(module: nn.Module) -> bool:
    """Whether a module is a layer of torch's own, so that its name says all: `nn.ReLU`, `nn.Linear`."""
    return type(module).__module__.startswith("torch.nn")


def _readable(tensor: Tensor) -> bool:
    return (
        tensor.is_floating_point()
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and tensor.numel() > 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # inside torch.func: no values to read
    )


def _parameter(call: Call) -> Tensor | None:
    """The weight a call multiplies by, if it can be told."""
    if call.name in _OWN_WEIGHT:
        position, name = (5, "in_proj_weight") if call.name.startswith("multi") else (1, "weight")
        found = call.args[position] if len(call.args) > position else call.kwargs.get(name)
        if call.name == "bilinear":
            found = call.args[2] if len(call.args) > 2 else call.kwargs.get("weight")
        return found if isinstance(found, Tensor) else None
    for value in call.args:
        if isinstance(value, nn.Parameter):
            return value
        if isinstance(value, Tensor) and isinstance(value._base, nn.Parameter):
            return value
    return None


def _site() -> tuple[str, int]:
    """The line that made the call, in whoever's code but torch's and ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "", 0
