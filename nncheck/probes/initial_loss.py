"""The loss before any training, taken apart, against its value where the outputs say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure
from nncheck.lab import batch as batches
from nncheck.lab.micro import micro_batches
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall, classes, place_of
from nncheck.losses.starting import KNOWN, Part, StartingLoss, has_classes, part_of, together
from nncheck.observe.layer_sizes import Layer, LayerWatch, rms, widest
from nncheck.observe.pretrained import frozen_output, trained_before
from nncheck.observe.source import layer_place, located
from nncheck.registry import probe
from nncheck.verdict import Place

# Samples and batches looked at: 256 samples give a standard error of 1/16 of the spread; eight passes at most.
SAMPLES = 256
BATCHES = 8
# Losses looked at in one pass, e.g. of several heads or scales.
CALLS = 8
# Updates after which a rate that is too large by the batch size has shown itself.
UPDATES = 8
_ADAPTIVE = ("ada", "rms", "lion", "rprop", "lamb")


@dataclass(frozen=True, kw_only=True)
class SumTrial:
    """What a few updates do to a loss that is a sum: (loss per prediction before, after), and after the same updates with the
    gradient of the mean."""

    updates: int
    before: float
    after: float
    after_mean: float


@dataclass(frozen=True, kw_only=True)
class Use:
    """What the final loss of the first batch makes of one call of a loss.

    weight: its derivative by the call's value; None for an unreduced one, or where there is none. classes: of a distribution.
    against: how many predictions of a label (0, 1) lower the final loss when their own loss rises; of: predictions of each.
    Both (0, 0) but for unreduced losses of yes or no.
    """

    kind: str
    place: Place
    reduction: str
    classes: int
    weight: float | None
    against: tuple[int, int] = (0, 0)
    of: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class InitialLoss:
    """Losses of the first batches in train mode, before any update.

    final: what the user would call backward on, by batch. other: names of torch's losses that were called but have no known
    value. layers: of the first batch. suspects: the places of layers by name. input_size: root mean square of the float
    inputs. normalised: whether embeddings are normalised in the forward pass. trained: why the model seems trained.
    shuffled: the first loss with every parameter's values in another order, None if not needed. summed: set if the only loss is
    the sum over all predictions. adaptive: whether the optimizer divides by the gradient's own size. uses: of the first batch's
    calls.
    """

    final: tuple[float, ...]
    levels: tuple[StartingLoss, ...]
    other: tuple[str, ...]
    layers: tuple[Layer, ...]
    places: dict[str, Place]
    input_size: float | None
    normalised: bool
    trained: str
    shuffled: float | None
    summed: SumTrial | None
    adaptive: bool
    uses: tuple[Use, ...] = ()


@probe
def initial_loss(sandbox: Sandbox) -> InitialLoss:
    """Up to eight forward passes; the graph of each is dropped at once."""
    final: list[float] = []
    widths: set[int] = set()
    sizes: list[int] = []
    watcher = LayerWatch()
    parts: list[list[Part]] = []
    other: set[str] = set()
    uses: list[Use] = []
    with sandbox.trial():
        for index, batch in enumerate(_batches(sandbox)):
            sandbox.check_time()
            first = not index
            watcher.clear()
            outcome = sandbox.forward(
                batch, index=index, calls=(watcher.see_call,), modules=(watcher.see_module,) if first else ()
            )
            final.append(float(outcome.loss.detach()))
            sizes.append(batches.size(batch))
            known = [call for call in outcome.calls if call.kind in KNOWN and call.input.numel()]
            other |= {call.kind for call in outcome.calls} - set(KNOWN)
            widths |= {_width(call) for call in known[:CALLS]}
            if first:
                uses = [_use(sandbox, call, outcome.loss) for call in known[:CALLS]]
            for position, call in enumerate(known[:CALLS]):
                if position == len(parts):
                    parts.append([])
                if not parts[position] or parts[position][0].kind == call.kind:
                    parts[position].append(part_of(sandbox, call, watcher.mask(call), final[-1], sizes[-1]))
        del outcome
        if not final:
            raise CannotMeasure("the loader gave no batch")
        layers = watcher.layers(sandbox.model)
    levels = tuple(together(group) for group in parts)
    low = [level for level in levels if _informed(level)]
    trained = trained_before(sandbox) or next(filter(None, (frozen_output(sandbox.model, n) for n in widths)), "")
    made = sandbox.setup.origins.get("model")
    adaptive = any(word in type(sandbox.optimizer).__name__.lower() for word in _ADAPTIVE)
    return InitialLoss(
        final=tuple(final),
        levels=levels,
        other=tuple(sorted(other)),
        layers=layers,
        places={layer.name: located(layer_place(sandbox.model, layer.name), made) for layer in widest(layers)},
        input_size=_input_size(sandbox.feed.first),
        normalised=watcher.normalised,
        trained=trained,
        shuffled=_shuffled(sandbox) if low and not trained else None,
        summed=_try_sum(sandbox, levels[0], final[0])
        if len(levels) == 1 and is_sum(levels[0]) and not adaptive
        else None,
        adaptive=adaptive,
        uses=tuple(uses),
    )


def _use(sandbox: Sandbox, call: LossCall, final: Tensor) -> Use:
    slope: Tensor | None = None
    if final.requires_grad and call.value.requires_grad:
        (slope,) = torch.autograd.grad(final, [call.value], retain_graph=True, allow_unused=True)
    against = of = (0, 0)
    target = call.target.detach()
    hard = call.kind in ("bce", "bce-with-logits") and bool(((target == 0) | (target == 1)).all())
    if slope is not None and hard and slope.numel() > 1 and slope.shape == target.shape:
        yes = target == 1
        against = (int((slope[~yes] < 0).sum()), int((slope[yes] < 0).sum()))
        of = (int((~yes).sum()), int(yes.sum()))
    return Use(
        kind=call.kind,
        place=place_of(call, sandbox.setup.origins),
        reduction=call.reduction,
        classes=call.input.size(-1) if call.input.ndim > 1 else 1,
        weight=float(slope) if slope is not None and call.reduction != "none" and slope.numel() == 1 else None,
        against=against,
        of=of,
    )


def _batches(sandbox: Sandbox) -> list[Any]:
    return sandbox.feed.samples(SAMPLES)[:BATCHES]


def _width(call: LossCall) -> int:
    """The number of outputs a prediction is made from."""
    if has_classes(call):
        return call.input.size(-1) if call.kind == "kl-div" and call.input.ndim else classes(call)
    return call.input.size(1) if call.input.ndim > 1 else 1


def _input_size(batch: Any) -> float | None:
    sizes = [
        rms(t) for _, t in batches.named_tensors(batches.split(batch)[0]) if t.is_floating_point() and t.numel() > 1
    ]
    return float(max(sizes)) if sizes else None


def _informed(level: StartingLoss) -> bool:
    """Whether a classification loss is so far below what a constant can reach that the outputs must know the labels."""
    if level.kind not in ("cross-entropy", "bce-with-logits", "bce"):
        return False
    least = min(level.expected, level.expected if level.constant is None else level.constant)
    return level.loss < 0.75 * least


def _shuffled(sandbox: Sandbox) -> float:
    """The first loss when the values within each parameter change places: what was learned is gone, the sizes are not."""
    with sandbox.trial() as model:
        with torch.no_grad():
            for parameter in model.parameters():
                order = torch.randperm(parameter.numel()).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
        return float(sandbox.forward(sandbox.feed.first).loss.detach())


def is_sum(level: StartingLoss) -> bool:
    """Whether the final loss is the mean times the number of predictions, or of samples, in every batch."""
    if len(level.factors) != len(level.counts) or min(level.counts) < 2:
        return False
    return any(
        all(abs(f / n - 1) < 1e-3 for f, n in zip(level.factors, numbers, strict=True))
        for numbers in (level.counts, level.samples)
        if min(numbers) > 1
    )


def _try_sum(sandbox: Sandbox, level: StartingLoss, first: float) -> SumTrial | None:
    """Take a few updates with the user's optimizer, as they are and with the gradient of the mean; None if it wants a closure.

    Updates are taken on parts of the batches, with the loss scaled up to what the whole batch's sum would be; the loss before
    and after is that of the whole first batch.
    """
    ends = []
    found = micro_batches(sandbox, UPDATES)
    if not found:
        return None
    whole = batches.size(sandbox.feed.first) / max(1, batches.size(found[0]))
    for scale in (whole, whole / level.factors[0]):
        with sandbox.trial():
            for index in range(UPDATES):
                batch = found[index % len(found)]
                sandbox.optimizer.zero_grad()
                sandbox.backward(sandbox.forward(batch, index=index).loss * scale, batch)
                try:
                    sandbox.optimizer.step()
                except TypeError:  # it wants a closure
                    return None
            ends.append(float(sandbox.forward(sandbox.feed.first).loss.detach()) / level.factors[0])
    return SumTrial(updates=UPDATES, before=first / level.factors[0], after=ends[0], after_mean=ends[1])
