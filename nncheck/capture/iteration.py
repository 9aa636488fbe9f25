"""Which of the things that a script did belong to the iteration of its first step: where that began, and the loop around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nncheck.capture.loops import SourceLoop, common_loop, common_stretch
from nncheck.capture.record import Begun, Record, Request
from nncheck.lab.snapshot import RandomState


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One way to see the iteration of the first step.

    inner: the loop that leads from its beginning to its backward pass; outer: the one that leads to the step as well.
    loader: what gave its batch, or None if that is what the model's calls were given. given: what each loader gave in it, by id.
    random: the generators' states when the batches had been given. losses: what the first step goes back from; all_seen:
    whether these are all that were gone back from in it. micro: how many iterations of the inner loop there were until the step.
    """

    begun: Begun
    inner: SourceLoop
    outer: SourceLoop
    loader: Any
    given: dict[int, Any]
    random: dict[int, RandomState]
    losses: tuple[float, ...]
    all_seen: bool
    micro: int

    @property
    def by_for(self) -> bool:
        """Whether the loop goes through its loader by `for`, and does not ask it by itself."""
        return self.inner.in_head(self.begun.stack)

    @property
    def batch(self) -> Any:
        """Its batch."""
        return self.begun.taken.batch() if self.loader is None else self.given[id(self.loader)]


def iterations(record: Record) -> list[Iteration]:
    """The ways to see it, the likeliest first: a loader's loop, the calls of the model in their loop, and without it.

    What a loop draws by itself, or takes from a world that has gone on, comes out again only from the call on.
    """
    request = _first_request(record)
    found = [] if request is None else [_seen(record, request, list(record.requests.values()), common_loop)]
    if record.called is not None:
        found += [_seen(record, record.called, [], way) for way in (common_loop, common_stretch)]
    known = [one for one in found if one is not None]
    return sorted(known, key=lambda one: not one.inner.is_loop)


def _seen(
    record: Record, begun: Begun, requests: list[Request], way: Callable[..., SourceLoop | None]
) -> Iteration | None:
    inner = way(begun.stack, record.backward)
    outer = common_loop(begun.stack, record.backward, record.step)
    if inner is None or outer is None:
        return None
    own = [request for request in requests if request.order >= begun.order]
    losses = [loss for loss in record.losses if loss.order > begun.order]
    # A sharpness-aware step has moved the weights before its further losses.
    same = [loss.value for loss in losses if loss.version == losses[0].version]
    random = {id(request.loader): request.after for request in own if request.after is not None}
    return Iteration(
        begun=begun, inner=inner, outer=outer, loader=own[0].loader if own else None,
        given={id(request.loader): request.batch for request in own},
        random=random if own else begun.random, losses=tuple(same), all_seen=len(same) == len(losses),
        micro=_rounds(record, begun, own),
    )  # fmt: skip


def _first_request(record: Record) -> Request | None:
    """The first request of the iteration: of the requests in the loop of the last one, which may have several loaders."""
    requests = list(record.requests.values())
    if not requests:
        return None
    loop = common_loop(requests[-1].stack, record.backward)
    for request in requests[:-1]:
        other = common_loop(request.stack, record.backward)
        if (
            loop is not None
            and other is not None
            and other.is_loop
            and (other.file, other.line) == (loop.file, loop.line)
        ):
            return request
    return requests[-1]


def _rounds(record: Record, begun: Begun, own: list[Request]) -> int:
    """How many rounds of the loop called backward before the step."""
    began = record.asked.get(id(own[0].loader), []) if own else record.calls
    ends = [*began[1:], math.inf]
    return sum(any(start < loss.order < end for loss in record.losses) for start, end in zip(began, ends, strict=True))
