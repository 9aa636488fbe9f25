"""Which values the losses' inputs can take at all, and what of the targets lies outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.doors import wake
from nncheck.lab.objective import Outcome
from nncheck.lab.pairing import same_tensors
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import (
    CLASSIFICATION,
    LossCall,
    classes,
    entropy,
    floor,
    per_element,
    place_of,
    soft_targets,
    target_distribution,
)
from nncheck.losses.levels import best_constant
from nncheck.observe.ranges import Bound, Ranges
from nncheck.observe.source import layer_place, located
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# Losses whose input is compared with the target value by value.
VALUES = ("mse", "l1", "smooth-l1", "huber")
JUDGED = (*VALUES, *CLASSIFICATION, "bce", "bce-with-logits")
BINS = 24
# Targets are looked at in this many batches at most: a small batch shows little of their range. A forward pass each.
BATCHES = 3
ENOUGH = 256


@dataclass(frozen=True, kw_only=True)
class Reach:
    """One loss's input, what it can be, and what was wanted of it.

    low, high: the bounds; infinite where there is none. function: what sets them; since: how many functions changed the
    values after that. wanted_low, wanted_high: the extremes of the targets. outside: the share of the targets beyond the bounds.
    floor: the lowest loss within the bounds; free: the lowest without them; constant: the best the same answer for all gives;
    all per counted target. at_low: the share of values that are exactly the lower bound; at_high: the upper.
    stuck: the share of the predictions whose own class is exactly at the lower bound, where it gets no gradient.
    fixed: the targets are data: they stay when the parameters change.
    """

    kind: str
    place: Place
    function: str
    function_place: Place
    since: int
    low: float
    high: float
    wanted_low: float
    wanted_high: float
    outside: float
    floor: float
    free: float
    constant: float
    classes: int
    targets: int
    at_low: float
    at_high: float
    stuck: float
    fixed: bool
    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class OutputRange:
    """The losses of the first batches. kinds: of all losses seen. unbounded: how many have an input without a bound."""

    kinds: tuple[str, ...]
    unbounded: int
    reaches: tuple[Reach, ...]


@probe
def output_range(sandbox: Sandbox) -> OutputRange:
    """One to three forward passes that follow the bounds which functions set."""

    def locate(call: Call) -> Place:
        built_in = call.module is not None and type(call.module).__module__.startswith("torch.nn")
        own = layer_place(sandbox.model, call.layer) if built_in and call.layer else call.place()
        return located(own, sandbox.setup.origins.get("model"))

    feed = sandbox.feed
    wanted = min(BATCHES, -(-ENOUGH // max(1, feed.batch_size)))
    with sandbox.trial():
        ranges = Ranges(locate)
        calls = _calls(sandbox.forward(feed.first, calls=(ranges,)), feed.first)
        judged = [call for call in calls if call.kind in JUDGED and call.input.numel() and call.target.numel()]
        bounds = [ranges.of(call.input) for call in judged]
        if not judged:
            return OutputRange(kinds=tuple(dict.fromkeys(call.kind for call in calls)), unbounded=0, reaches=())
        more: list[list[LossCall]] = []
        if any(bounds):
            for batch in feed.take(wanted)[1:]:
                other = _calls(sandbox.forward(batch), batch)
                other = [call for call in other if call.kind in JUDGED and call.input.numel() and call.target.numel()]
                if [c.kind for c in other] == [c.kind for c in judged]:
                    more.append(other)
        reaches = []
        for k, (call, bound) in enumerate(zip(judged, bounds, strict=True)):
            if bound is not None and call.input.requires_grad:
                place = place_of(call, sandbox.setup.origins)
                reaches.append((k, call.target.detach().clone(), _reach(call, [c[k] for c in more], bound, place)))
        kinds = tuple(dict.fromkeys(call.kind for call in judged))
    found = [(k, target, reach) for k, target, reach in reaches if reach is not None]
    return OutputRange(
        kinds=kinds,
        unbounded=sum(bound is None for bound in bounds),
        reaches=_with_targets_told(sandbox, found),
    )


def _with_targets_told(sandbox: Sandbox, found: list[tuple[int, Tensor, Reach]]) -> tuple[Reach, ...]:
    """A codebook or another network's answer, as a target, moves towards the output: only data stay beyond its reach."""
    if not any(reach.outside > 0 for _, _, reach in found):
        return tuple(reach for _, _, reach in found)
    with sandbox.trial() as model:
        wake(model)
        calls = _calls(sandbox.forward(sandbox.feed.first), sandbox.feed.first)
        judged = [call for call in calls if call.kind in JUDGED and call.input.numel() and call.target.numel()]
        return tuple(
            replace(reach, fixed=k < len(judged) and same_tensors(judged[k].target.detach(), target))
            for k, target, reach in found
        )


def _calls(outcome: Outcome, batch: Any) -> list[LossCall]:
    """The losses of torch's that were called; a squared or absolute error written by hand is one too."""
    if outcome.calls:
        return list(outcome.calls)
    _, target = batches.split(batch)
    output = outcome.output
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or output.shape != target.shape:
        return []
    if not target.is_floating_point() or not output.is_floating_point():
        return []
    with torch.no_grad():
        gap = output.detach() - target
        loss = float(outcome.loss.detach())
        for kind, value, function in (
            ("mse", gap.square().mean(), torch.nn.functional.mse_loss),
            ("l1", gap.abs().mean(), torch.nn.functional.l1_loss),
        ):
            if abs(float(value) - loss) <= 1e-5 * abs(loss):
                return [
                    LossCall(
                        kind=kind,
                        function=function,
                        input=output,
                        target=target,
                        options={"reduction": "mean"},
                        value=outcome.loss,
                        place=Place(name="loss"),
                        layer="",
                    )
                ]
    return []


def _reach(call: LossCall, others: list[LossCall], bound: Bound, place: Place) -> Reach | None:
    with torch.no_grad():
        every = [call, *others]
        if call.kind in VALUES:
            found = _values(every, bound)
        elif call.kind in CLASSIFICATION:
            found = _classes(every, bound)
        else:
            found = _labels(every, bound)
        if found is None:
            return None
        values = torch.cat([c.input.detach().double().flatten() for c in every])
        wanted = found.wanted
        low, high = float(wanted.min()), float(wanted.max())
        width = high - low or 1.0
        return Reach(
            kind=call.kind,
            place=place,
            function=bound.function,
            function_place=bound.place,
            since=bound.since,
            low=bound.low,
            high=bound.high,
            wanted_low=low,
            wanted_high=high,
            outside=found.outside,
            floor=found.floor,
            free=found.free,
            constant=found.constant,
            classes=classes(call) if call.kind in CLASSIFICATION else 1,
            targets=wanted.numel(),
            at_low=float((values == bound.low).double().mean()),
            at_high=float((values == bound.high).double().mean()),
            stuck=found.stuck,
            fixed=True,
            edges=tuple(low + width * i / BINS for i in range(BINS + 1)),
            counts=tuple(torch.histc(wanted, bins=BINS, min=low, max=low + width).tolist()),
        )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a kind of loss wants, and what it can get."""

    wanted: Tensor
    outside: float
    floor: float
    free: float
    constant: float
    stuck: float = 0.0


def _values(calls: list[LossCall], bound: Bound) -> _Found | None:
    """Targets are values: the nearest that can be reached is the bound itself."""
    call = calls[0]
    if call.target.shape != call.input.shape:
        return None  # loss-broadcast's
    target = torch.cat([c.target.detach().to(c.input.dtype).reshape(-1, *c.target.shape[1:]) for c in calls])
    if not bool(torch.isfinite(target).all()):
        return None
    best = best_constant(call, target)
    nearest = target.clamp(bound.low, bound.high)
    plain = call.again(nearest, target, reduction="none").double()
    # A little beyond the bound is rounding of the data, as 1.0000001 in an image.
    slack = 1e-3 * float(target.double().std(correction=0))
    beyond = (target - nearest).abs().double() > slack
    if best is None:
        return None
    return _Found(
        wanted=target.double().flatten().cpu(),
        outside=float(beyond.double().mean()),
        floor=float(plain.mean()),
        free=0.0,
        constant=best[1],
    )


def _classes(calls: list[LossCall], bound: Bound) -> _Found | None:
    """The best logits: the upper bound for the class that is wanted, the lower for the others."""
    call = calls[0]
    count = classes(call)
    if call.kind != "cross-entropy" or count < 2 or soft_targets(call) or call.options.get("weight") is not None:
        return None
    rows = torch.cat([target_distribution(c) for c in calls])
    best = best_constant(call)
    if best is None or not len(rows):
        return None
    smoothing = float(call.options.get("label_smoothing") or 0.0)
    wanted = torch.tensor(float("inf"), dtype=torch.double)
    if smoothing:
        wanted = torch.tensor((1 - smoothing + smoothing / count) / (smoothing / count), dtype=torch.double).log()
    gap = min(float(wanted), bound.high - bound.low)
    other = torch.tensor(-gap, dtype=torch.double).exp() * (count - 1)
    top = 1 - smoothing + smoothing / count
    lowest = float(torch.log1p(other)) + ((1 - top) * gap if smoothing else 0.0)
    labels = call.target.detach()
    known = (labels != call.options.get("ignore_index", -100)) & (labels >= 0) & (labels < count)
    own = call.input.detach().gather(1, labels.clamp(0, count - 1).unsqueeze(1)).squeeze(1) if labels.ndim else None
    stuck = float((own[known] == bound.low).double().mean()) if own is not None and bool(known.any()) else 0.0
    return _Found(
        wanted=rows.argmax(1).double().cpu(),
        outside=0.0,
        floor=lowest,
        free=float(entropy(rows).mean()),
        constant=best[1],
        stuck=stuck,
    )


def _labels(calls: list[LossCall], bound: Bound) -> _Found | None:
    """The best logit or probability within the bounds, label by label."""
    call = calls[0]
    lowest, best = floor(call), best_constant(call)
    if lowest is None or best is None or call.target.shape != call.input.shape:
        return None
    target = call.target.detach().to(call.input.dtype)
    if call.kind == "bce":
        ideal = target
        low, high = max(bound.low, 0.0), min(bound.high, 1.0)
        if low > high:
            return None
    else:
        positive = call.options.get("pos_weight")
        scaled = target if positive is None else target * positive
        ideal = (scaled.clamp_min(1e-18).log() - (1 - target).clamp_min(1e-18).log()).clamp(-40.0, 40.0)
        low, high = bound.low, bound.high
    nearest = ideal.clamp(low, high)
    each = per_element(call)
    value = float(call.value.detach().double().mean())
    scale = each / value if value else 1.0
    return _Found(
        wanted=target.double().flatten().cpu(),
        outside=float((nearest != ideal).double().mean()),
        floor=float(call.again(nearest).double().mean()) * scale,
        free=lowest[0] * scale,
        constant=best[1],
        stuck=float(((call.input.detach() == low) & (target > 0.5)).double().mean()),
    )
