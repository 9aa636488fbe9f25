"""The same items and batches fetched again: under the same seed, under another, and for a second epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from nncheck.errors import OutOfTime
from nncheck.lab import batch as batches, fingerprint
from nncheck.lab.chance import SeedWatch, private_generators, same_state, watch_seeding
from nncheck.lab.indices import length_of
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import RandomState, seed_everything
from nncheck.lab.workers import in_process
from nncheck.registry import probe
from nncheck.survey.data_state import DataState
from nncheck.verdict import Place

# Items fetched three times; and batches, twice.
ITEMS, BATCHES = 24, 2
# Where items are seeded one by one, their own part is told from the seeds' by more of them: the ratio's spread falls with the root.
# Measured for digits moved by a pixel: 1.57 +- 0.14 with 24 items.
SHIFTED_ITEMS = 96
# A run stays interactive: no round of fetches may take longer.
ROUND_SECONDS = 0.4
# Arrays of a data set beyond this are not compared as a whole.
COMPARED_BYTES = 1 << 26
# Seeds that are given in the user's code are changed this often, to see what they decide.
SHIFTS = 6
# Values of an item that are compared under shifted seeds.
VALUES = 4096
# A loader that can be iterated only once is followed this far to see whether it ends.
ONCE_BATCHES = 256


@dataclass(frozen=True, kw_only=True)
class ItemRepeats:
    """What fetching again gave.

    items: indices of the data set that were asked, 0 if it cannot be indexed; unequal: how many of them were not the same again
    under the same seed; vary: how many differ under another seed. edited: arrays of the data set that reading changed.
    batches_repeat: whether the first batches of two epochs under one seed are the same, None if not known.
    once: what the loader is, if it can be iterated only once; ended_after: its batches, if it has an end; empty_again: whether
    a second epoch gave no batch. private: unseeded generators of its own that were drawn from, unseeded: calls in the user's
    code that make chance unrepeatable; reseeded: calls that seed at each item.
    frozen: how much more the items differ from each other than their labels and the noise of such a seed explain (an F ratio)
    and the standard deviation of that ratio about 1 if these explain all, None if no seed decides how an item comes out.
    unused: a random transform of a data set whose items never change.
    """

    items: int = 0
    unequal: int = 0
    vary: int = 0
    edited: tuple[str, ...] = ()
    batches_repeat: bool | None = None
    map_style: bool = False
    once: str = ""
    ended_after: int | None = None
    empty_again: bool = False
    private: tuple[str, ...] = ()
    unseeded: tuple[Place, ...] = ()
    reseeded: tuple[Place, ...] = ()
    frozen: tuple[float, float] | None = None
    unused: str = ""


@probe
def item_repeats(sandbox: Sandbox) -> ItemRepeats:
    """Fetch items and batches of the training loader again."""
    loader = sandbox.setup.train_loader
    if iter_is_itself(loader):
        kept = sandbox.feed.take(ONCE_BATCHES)
        ended = len(kept) if sandbox.feed.ended and sandbox.feed.failure is None else None
        return ItemRepeats(
            once=type(getattr(loader, "dataset", loader)).__name__, ended_after=ended, empty_again=ended is not None
        )
    rounds = Rounds(sandbox, loader)
    data = getattr(loader, "dataset", None)
    indexed = data is not None and not isinstance(data, IterableDataset) and hasattr(data, "__getitem__")
    found = _items(rounds, data, sandbox.seed) if indexed else {}
    started = time.monotonic()
    first, watch = rounds.run(sandbox.seed, lambda: _batches(loader))
    quick = time.monotonic() - started < 2 * ROUND_SECONDS
    again = rounds.run(sandbox.seed, lambda: _batches(loader))[0] if quick else first
    both = min(len(first), len(again))  # a round may have run out of time
    repeat = _marks(first[:both]) == _marks(again[:both]) if quick and both else None
    return ItemRepeats(
        **found,
        batches_repeat=repeat,
        map_style=indexed and type(loader) is DataLoader,
        empty_again=bool(sandbox.feed.take(1)) and not again and rounds.failure is None,
        private=tuple(sorted(rounds.private)),
        unseeded=_distinct([s.place for s in (*rounds.anew, *_anew(watch))]),
    )


def iter_is_itself(loader: Any) -> bool:
    """Whether a loader has only one epoch: a generator, `zip(...)`, `map(...)`, or a data set that is an iterator."""
    if hasattr(loader, "__next__") and hasattr(loader, "__iter__") and not hasattr(loader, "__len__"):
        return True
    data = getattr(loader, "dataset", None)
    if type(loader) is not DataLoader or not isinstance(data, IterableDataset):
        return False
    try:
        return iter(data) is iter(data)  # a stored iterator, handed out again and again
    except Exception:  # noqa: BLE001  # the user's own code; `forward-pass` reports what it raises
        return False


@dataclass
class Rounds:
    """Fetches that all begin from the same state of the user's objects."""

    sandbox: Sandbox
    loader: Any
    private: set[str] = field(default_factory=set)
    anew: list[Any] = field(default_factory=list)
    failure: Exception | None = None

    def run(self, seed: int, fetch: Callable[[], Iterator[Any]], *, shift: int = 0) -> tuple[list[Any], SeedWatch]:
        """What `fetch` yields within the time of a round, with everything put back afterwards."""
        self.sandbox.check_time()
        world, state = RandomState(), DataState(self.loader)
        generators = private_generators([("train_loader", self.loader)])
        before = [g.state() for g in generators]
        values: list[Any] = []
        watch = SeedWatch(shift=shift)
        started = time.monotonic()
        try:
            with watch_seeding(watch):
                seed_everything(seed)
                for value in fetch():
                    values.append(value)
                    self.sandbox.check_time()
                    if time.monotonic() - started > ROUND_SECONDS:
                        break
        except (OutOfTime, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001  # the user's data set may raise anything; `forward-pass` reports it
            self.failure = error
        finally:
            for generator, was in zip(generators, before, strict=True):
                if not same_state(was, generator.state()):
                    generator.put_back(was)
                    if generator.unseeded:
                        self.private.add(generator.name)
            state.restore()
            world.restore()
        return values, watch


def _batches(loader: Any) -> Iterator[Any]:
    for batch in islice(iter(in_process(loader)), BATCHES):
        yield batches.map_tensors(lambda t: t.clone(), batch)


def _items(rounds: Rounds, data: Any, seed: int) -> dict[str, Any]:
    """The fields of `ItemRepeats` that come from single items."""
    length = length_of(data)
    if length is None:
        return {}
    indices = _spread(length, ITEMS)

    def fetch(indices: Sequence[int], seed: int) -> Iterator[Any]:
        for index in indices:
            seed_everything(seed + index)
            yield batches.map_tensors(lambda t: t.clone(), data[index])

    if not indices:
        return {}
    world, state = RandomState(), DataState(rounds.loader)
    generators = private_generators([("train_loader", rounds.loader)])
    states = [g.state() for g in generators]

    def rewind() -> None:
        for generator, was in zip(generators, states, strict=True):
            generator.put_back(was)

    try:
        before = _arrays(data)
        # Without the data set's arrays put back in between: what an edit in place does stays, as it does in training.
        first = _within(rounds, fetch(indices, seed))
        rewind()
        indices = indices[: len(first)]
        second = _within(rounds, fetch(indices, seed))
        changed = [name for name, mark in _arrays(data).items() if before.get(name) != mark]
    finally:
        rewind()
        state.restore()
        world.restore()
    if not first or len(second) < len(first):
        return {}
    drifted = [a != b for a, b in zip(_marks(first), _marks(second), strict=True)]
    one, watch = rounds.run(seed, lambda: fetch(indices, seed))
    same, _ = rounds.run(seed, lambda: fetch(indices, seed))
    other, _ = rounds.run(seed, lambda: fetch(indices, seed + 100_003))
    unequal = sum(a != b for a, b in zip(_marks(one), _marks(same), strict=False))
    vary = sum(a != b for a, b in zip(_marks(one), _marks(other), strict=False))
    rounds.anew.extend(_anew(watch))
    if not other or not same:  # the rounds took too long, or failed
        return {}
    found: dict[str, Any] = {
        "items": len(first),
        "unequal": unequal,
        "vary": vary,
        "edited": tuple(changed) if any(drifted) else (),
        "reseeded": _distinct([s.place for s in watch.seedings if s.fixed]),
    }
    if not unequal and not vary:
        if found["reseeded"]:
            many = _spread(length, SHIFTED_ITEMS)
            shifted = [rounds.run(seed, lambda: fetch(many, seed), shift=7919 * s)[0] for s in range(SHIFTS + 1)]
            found["frozen"] = frozen_ratio(shifted, stored=_stores_items(data, length))
        found["unused"] = _idle_transform(rounds, data, one[0], seed)
    return found


def _spread(length: int, count: int) -> list[int]:
    """So many indices, evenly over the data set."""
    return sorted({i * (length - 1) // (count - 1) for i in range(count)}) if length else []


def _within(rounds: Rounds, fetch: Iterator[Any]) -> list[Any]:
    """What is fetched within the time of a round; nothing more after a failure."""
    values: list[Any] = []
    started = time.monotonic()
    try:
        for value in fetch:
            values.append(value)
            rounds.sandbox.check_time()
            if time.monotonic() - started > ROUND_SECONDS:
                break
    except Exception as error:  # noqa: BLE001  # the user's data set may raise anything; `forward-pass` reports it
        rounds.failure = error
    return values


def _marks(values: Sequence[Any]) -> list[str]:
    return [fingerprint.of(value) for value in values]


def _anew(watch: SeedWatch) -> list[Any]:
    return [*(s for s in watch.seedings if not s.fixed), *watch.clocks]


def _distinct(places: Sequence[Place]) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(places))


def _arrays(data: Any) -> dict[str, str]:
    """Fingerprints of the tensors and arrays that a data set, or one inside it, holds."""
    found: dict[str, str] = {}
    left = COMPARED_BYTES
    owners = [("dataset", data)]
    for name, owner in owners[:64]:
        for attribute, value in vars(owner).items() if hasattr(owner, "__dict__") else ():
            path = f"{name}.{attribute}"
            if (
                attribute in ("dataset", "base", "data")
                and hasattr(value, "__getitem__")
                and hasattr(value, "__dict__")
            ):
                owners.append((path, value))
            items = value if isinstance(value, (list, tuple)) else [value]
            held = [item for item in items if isinstance(item, Tensor) or hasattr(item, "nbytes")]
            left -= sum(int(item.nbytes) for item in held)
            if held and left > 0:
                found[path] = fingerprint.of(held)
    return found


def _stores_items(data: Any, length: int) -> bool:
    """Whether a data set holds an array with a row of several numbers for each item."""
    held = vars(data).values() if hasattr(data, "__dict__") else ()
    return any(
        getattr(value, "ndim", 0) > 1 and value.shape[0] == length and value.shape[1:].count(1) < value.ndim - 1
        for value in held
        if isinstance(value, Tensor) or hasattr(value, "nbytes")
    )


def frozen_ratio(rounds: Sequence[Sequence[Any]], *, stored: bool) -> tuple[float, float] | None:
    """How far items lie apart whose own seeds were changed, against what labels and those seeds explain; and the ratio's spread.

    An item made from its seed alone has, on average over seeds, nothing of its own beside its label: the ratio is near 1. An
    augmented one keeps what it was made from. None where the seeds change nothing, or change labels, or shapes differ; and where
    every item has a label of its own, which may be all that it was made from, unless `stored` says that it was not.
    """
    count = min(len(items) for items in rounds)
    pairs = [[batches.split(item) for item in items[:count]] for items in rounds]
    labels = [[fingerprint.of(target) for _, target in items] for items in pairs]
    if count < 8 or any(row != labels[0] for row in labels):
        return None
    values = []
    for items in pairs:
        tensors = [next((t for _, t in batches.named_tensors(inputs)), None) for inputs, _ in items]
        if any(t is None for t in tensors) or len({t.shape for t in tensors if t is not None}) != 1:
            return None
        values.append(torch.stack([t.detach().cpu().double().flatten()[:VALUES] for t in tensors if t is not None]))
    seen = torch.stack(values)  # (seeds, items, values)
    noise = float(seen.var(0).mean())
    groups = sorted(set(labels[0]))
    if count - len(groups) < 4:
        groups = labels[0][:1] if stored else []
    if not noise > 0 or not groups:
        return None
    own = seen.mean(0)
    member = torch.tensor([groups.index(label) if len(groups) > 1 else 0 for label in labels[0]])
    for group in range(len(groups)):
        own[member == group] -= own[member == group].mean(0)
    freedom = count - len(groups)
    between = float(own.square().sum(0).mean()) / freedom
    # Values of one item may hang together: so many independent ones have as even a spectrum.
    gram = own @ own.T
    independent = max(1.0, float(gram.trace() ** 2 / gram.square().sum().clamp_min(1e-300)))
    return between / (noise / seen.size(0)), (2 / (freedom * independent)) ** 0.5


def _idle_transform(rounds: Rounds, data: Any, item: Any, seed: int) -> str:
    """The name of a transform of the data set that gives another result each time it is asked; "" if there is none."""
    inputs, _ = batches.split(item)
    owner, path = data, "dataset"
    for _ in range(4):
        for name, transform in vars(owner).items() if hasattr(owner, "__dict__") else ():
            if not callable(transform) or not ("transform" in name or "augment" in name) or "target" in name:
                continue

            def ask(transform: Callable[[Any], Any] = transform) -> Iterator[Any]:
                for shift in range(2 * SHIFTS):
                    seed_everything(seed + shift)
                    yield transform(batches.map_tensors(lambda t: t.clone(), inputs))

            results, _ = rounds.run(seed, ask)
            if len(set(_marks(results))) > 1:
                return f"{path}.{name}"
        owner, path = getattr(owner, "dataset", None), f"{path}.dataset"
        if owner is None:
            return ""
    return ""
