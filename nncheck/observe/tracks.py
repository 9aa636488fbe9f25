"""One forward pass with its samples marked: leaves where they enter a module, and what comes out of it.

Floating-point inputs become leaves themselves. Integer and boolean inputs are followed through integer operations to the first
floating-point tensor made from them (an embedding's output, a one-hot, a cast), which becomes a leaf. Parameters are frozen
meanwhile, so a tensor has a gradient exactly if it was made from a sample.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.errors import CannotMeasure
from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.watch import Call
from nncheck.verdict import Place

# What these give has an order of its own: its rows need not be the samples any more.
REORDERED = {"sort", "argsort", "topk", "unique", "nonzero", "scatter", "scatter_", "randperm", "searchsorted"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A tensor made by one call of a torch function, the `calls`-th of the pass."""

    calls: int
    tensor: Tensor
    function: str
    layer: str
    place: Place


@dataclass(kw_only=True)
class Track:
    """One marked forward pass. Tensors have their graph; only the probe that made the track may hold it.

    arguments: every tensor given to an outermost module. sources: the leaves. outputs: the floating-point tensors that came out.
    made: results of calls, if they were asked for. functions: names of all calls. statistics: BatchNorm calls that used the
    batch's own statistics. random: the pass drew random numbers. stateful: it changed what an earlier pass had left.
    """

    arguments: list[tuple[str, Tensor]] = field(default_factory=list)
    sources: list[tuple[str, Tensor]] = field(default_factory=list)
    outputs: list[tuple[str, Tensor]] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    lengths: set[int] = field(default_factory=set)
    statistics: list[Place] = field(default_factory=list)
    random: bool = False
    stateful: bool = False
    ragged: bool = False


def follow(
    sandbox: Sandbox,
    batch: Any,
    *,
    keep: Callable[[Tensor], bool] | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Track:
    """Run the model on a batch, inside a trial, and return the marked pass.

    `change` is applied to every tensor given to an outermost module. `keep` chooses the results to be kept in `made`.
    What a training step does to a batch before the model sees it (MixUp, say) is left out: leaves are set at the model's door.
    """
    track = Track()
    from_integers: dict[int, Tensor] = {}  # keeps them alive, so that an id stays one tensor's
    depth = 0
    marking = False

    def mark(name: str, tensor: Tensor) -> Tensor:
        if tensor.layout is not torch.strided:
            raise CannotMeasure("the batch holds sparse tensors: its rows are nodes of a graph, not samples")
        if change is not None:
            changed = change(tensor)  # asked of every tensor, as each has its turn
            # What comes out of one outermost module and goes into the next was changed at the first door already.
            tensor = changed if tensor.grad_fn is None else tensor
        track.arguments.append((name, tensor.detach()))
        track.lengths.update(tensor.shape)
        if not (tensor.is_floating_point() or tensor.is_complex()):
            from_integers[id(tensor)] = tensor
            return tensor
        given = tensor.is_leaf and tensor.requires_grad  # the step will ask for its gradient itself
        leaf = tensor if given else tensor.detach().clone().requires_grad_()
        track.sources.append((name, leaf))
        return leaf if given else leaf.clone()  # a leaf itself could not be changed in place

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        nonlocal depth, marking
        depth += 1
        if depth > 1:
            return None
        marking = True  # what is done here is none of the model's doing
        given = (args, kwargs)
        packed = any(isinstance(v, nn.utils.rnn.PackedSequence) for v in (*args, *kwargs.values()))
        if packed:
            raise CannotMeasure("the model is given a PackedSequence: its rows are time steps of several samples")
        track.ragged |= any(_per_sample(value) for value in (*args, *kwargs.values()))
        names = iter([name for name, _ in batches.named_tensors(args)] + [n for n, _ in batches.named_tensors(kwargs)])
        changed: tuple[Any, Any] = batches.map_tensors(lambda t: mark(next(names, ""), t), given)
        marking = False
        return changed

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            track.outputs.extend(_tensors(output))

    def see(call: Call) -> Any:
        if marking:
            return None
        function, result = call.function, call.result
        if function is F.batch_norm:
            frozen = _without_batch_statistics(call, track)
            if frozen is not None:
                result = frozen
        if isinstance(result, Tensor):
            track.functions.append(call.name)
        if from_integers:
            result = batches.map_tensors(lambda t: follow_integers(call, t), result)
        if isinstance(result, (Tensor, tuple, list)):
            for _, tensor in batches.named_tensors(result):
                track.lengths.update(tensor.shape)
                if keep is not None and tensor.is_floating_point() and keep(tensor):
                    calls = len(track.functions)
                    place = call.place()
                    track.made.append(
                        Made(calls=calls, tensor=tensor, function=call.name, layer=call.layer, place=place)
                    )
        return None if result is call.result else result

    def follow_integers(call: Call, tensor: Tensor) -> Tensor:
        if call.name in REORDERED or tensor.requires_grad:
            return tensor
        if not any(id(a) in from_integers for a in _flat((call.args, call.kwargs))):
            return tensor
        if not (tensor.is_floating_point() or tensor.is_complex()):
            from_integers[id(tensor)] = tensor
            return tensor
        leaf = tensor.detach().clone().requires_grad_()
        track.sources.append((call.layer or call.name, leaf))
        return leaf.clone()

    model = sandbox.model
    doors = list(model.modules()) if sandbox.objective.form == "training_step" else [model]
    hooks: list[Any] = []
    state, noise = _state(model), _noise(sandbox.device)
    try:
        for door in doors:
            hooks.append(door.register_forward_pre_hook(enter, with_kwargs=True))
            hooks.append(door.register_forward_hook(leave, always_call=True))
        with _recurrent_backward_in_eval(sandbox.device):
            if sandbox.objective.form == "loss_fn":
                sandbox.predict(batch, calls=(see,))
            else:
                outcome = sandbox.forward(batch, calls=(see,))
                if not any(t.ndim for _, t in track.outputs) and outcome.calls:
                    track.outputs = [("what the loss is given", outcome.calls[-1].input)]
    finally:
        for hook in hooks:
            hook.remove()
    track.random = noise != _noise(sandbox.device)
    after = _state(model)
    track.stateful = any(key in after and after[key] != before for key, before in state.items())
    return track


def freeze(model: nn.Module) -> None:
    """No gradient for parameters; the trial puts that back."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def _without_batch_statistics(call: Call, track: Track) -> Tensor | None:
    """The result of a BatchNorm call with the batch's own statistics held constant; None if it used the running ones."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    if not given.get("training", False):
        return None
    values: Tensor = given["input"]
    track.statistics.append(call.place("BatchNorm with the statistics of the batch"))
    over = [d for d in range(values.ndim) if d != 1]
    variance, mean = torch.var_mean(values.detach(), over, correction=0)
    return F.batch_norm(
        values, mean, variance, given.get("weight"), given.get("bias"), False, 0.0, given.get("eps", 1e-5)
    )


def _tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    found = list(batches.named_tensors(output))
    if not found and hasattr(output, "__dict__"):  # a distribution, or an output class of the user's
        found = list(batches.named_tensors(vars(output)))
    for name, tensor in found:
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        if tensor.is_floating_point():
            yield name or "the output", tensor


def _per_sample(value: Any) -> bool:
    """Whether an argument is a list of things that are no tensors: lengths, strings, one entry a sample."""
    return isinstance(value, (list, tuple)) and len(value) > 1 and not any(isinstance(v, Tensor) for v in value)


def _flat(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _flat(item)


def _state(model: nn.Module) -> dict[tuple[int, str], tuple[int, int]]:
    """Identity and version of every tensor that modules hold besides their parameters."""
    marks = {}
    for module in model.modules():
        for name, value in (*module._buffers.items(), *vars(module).items()):
            if isinstance(value, Tensor):
                marks[id(module), name] = (id(value), value._version)
    return marks


def _noise(device: torch.device) -> tuple[Any, ...]:
    """The random states a forward pass may draw from."""
    accelerator = bytes(torch.cuda.get_rng_state(device).numpy()) if device.type == "cuda" else b""
    return bytes(torch.get_rng_state().numpy()), accelerator, random.getstate()


@contextmanager
def _recurrent_backward_in_eval(device: torch.device) -> Iterator[None]:
    # cuDNN's recurrent layers have a backward pass in train mode only.
    with torch.backends.cudnn.flags(enabled=False) if device.type == "cuda" else nullcontext():
        yield
