"""Where a set-up's random numbers come from besides the global generators: private ones, and calls that seed anew."""

from __future__ import annotations

import functools
import os
import random
import sys
import time
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from nncheck.observe.source import is_users, place_at
from nncheck.verdict import Place

TorchGenerator = torch.Generator  # by this name also while another class stands in its place
# Objects looked at in search of generators; a set-up's own have far fewer.
MOST_OBJECTS = 4000
# NumPy draws 128 random bits when it is given no seed; seeds that people write down are shorter.
WRITTEN_SEED = 1 << 64


@dataclass(frozen=True, kw_only=True)
class Private:
    """A generator that global seeding does not reach. `name`: how it is reached, e.g. `train_loader.dataset.rng`."""

    name: str
    generator: Any

    def state(self) -> Any:
        """Its present state, to compare and to put back."""
        generator = self.generator
        if isinstance(generator, TorchGenerator):
            return generator.get_state()
        if isinstance(generator, random.Random):
            return generator.getstate()
        return _numpy_state(generator)

    def put_back(self, state: Any) -> None:
        """Continue from an earlier state."""
        generator = self.generator
        if isinstance(generator, TorchGenerator):
            generator.set_state(state)
        elif isinstance(generator, random.Random):
            generator.setstate(state)
        else:
            _bits(generator).state = state

    @property
    def unseeded(self) -> bool:
        """Whether it is known to have been made without a seed; only NumPy's say so."""
        if isinstance(self.generator, (TorchGenerator, random.Random)):
            return False
        sequence = getattr(_bits(self.generator), "seed_seq", None)  # None after a legacy seed
        entropy = getattr(sequence, "entropy", None)
        return isinstance(entropy, int) and entropy >= WRITTEN_SEED


def same_state(one: Any, other: Any) -> bool:
    """Whether two states of one generator are the same."""
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(repr(one) == repr(other))


def private_generators(roots: Iterable[tuple[str, Any]]) -> tuple[Private, ...]:
    """The private generators within reach of named objects: attributes, containers, closures, and the globals their code uses."""
    found: list[Private] = []
    for name, value in reach(roots):
        if isinstance(value, (TorchGenerator, random.Random)) or _is_numpy_generator(value):
            found.append(Private(name=name, generator=value))
    return tuple(found)


def reach(roots: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Everything of the user's within reach of named objects, nearest first, each once, with a name."""
    waiting = deque(roots)
    seen: set[int] = set()
    while waiting and len(seen) < MOST_OBJECTS:
        name, value = waiting.popleft()
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.Tensor)):
            continue
        if id(value) in seen or isinstance(value, types.ModuleType):
            continue
        seen.add(id(value))
        yield name, value
        waiting.extend(_inside(name, value))


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        if len(value) <= 256:
            yield from ((f"{name}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        if len(value) <= 256:
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from ((name, value.func), (name, value.args), (name, value.keywords))
    elif isinstance(value, types.MethodType):
        yield from ((name, value.__self__), (name, value.__func__))
    elif isinstance(value, types.FunctionType):
        yield from _inside_function(name, value)
    elif isinstance(value, type):
        if is_users(_file_of(value)):
            for attribute, item in vars(value).items():
                yield f"{name}.{attribute}", item.__func__ if isinstance(item, (staticmethod, classmethod)) else item
    elif not _is_numpy_generator(value):
        for attribute, item in getattr(value, "__dict__", {}).items():
            if attribute == "_modules" and isinstance(item, dict):
                yield from ((f"{name}.{child}", module) for child, module in item.items())
            else:
                yield f"{name}.{attribute}", item
        yield f"type of {name}", type(value)


def _inside_function(name: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    if not is_users(function.__code__.co_filename):
        return
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{name}: {variable}", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    codes = [function.__code__]
    for code in codes:
        codes.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
        for variable in code.co_names:
            if variable in function.__globals__:
                yield variable, function.__globals__[variable]
    yield name, function.__defaults__
    yield name, function.__kwdefaults__


def _file_of(kind: type) -> str:
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or "<unknown>"


def _is_numpy_generator(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("numpy.random") and hasattr(kind, "standard_normal")


def _bits(generator: Any) -> Any:
    made = getattr(generator, "bit_generator", None)
    return generator._bit_generator if made is None else made


def _numpy_state(generator: Any) -> Any:
    import copy

    return copy.deepcopy(_bits(generator).state)


@dataclass(frozen=True, kw_only=True)
class Seeding:
    """A call from the user's code that seeds a generator. `what`: the function; `fixed`: whether a seed was given."""

    what: str
    fixed: bool
    place: Place


@dataclass
class SeedWatch:
    """What the user's code asked for while `watch_seeding` was active. `shift` is added to every seed that is given."""

    shift: int = 0
    seedings: list[Seeding] = field(default_factory=list)
    clocks: list[Seeding] = field(default_factory=list)

    def seeding(self, what: str, seed: Any) -> Any:
        """Take down a seeding call, and give the seed to use."""
        place = _callers_place(what)
        if place is None:
            return seed
        self.seedings.append(Seeding(what=what, fixed=seed is not None, place=place))
        return seed + self.shift if isinstance(seed, int) and not isinstance(seed, bool) else seed

    def clock(self, what: str) -> None:
        """Take down a look at the clock or at the system's random numbers."""
        place = _callers_place(what)
        if place is not None:
            self.clocks.append(Seeding(what=what, fixed=False, place=place))


@contextmanager
def watch_seeding(seen: SeedWatch) -> Iterator[None]:
    """See every call of the user's code that seeds a generator, makes one, or asks the clock or the system for chance."""
    undo: list[tuple[Any, str, Any]] = []
    replaced: dict[int, Any] = {}

    def put(owner: Any, name: str, made: Any) -> None:
        original = getattr(owner, name)
        undo.append((owner, name, original))
        replaced[id(original)] = made
        setattr(owner, name, made)

    numpy = sys.modules.get("numpy")
    owners = [
        ("torch.manual_seed", torch, "manual_seed"),
        ("random.seed", random, "seed"),
        ("torch.seed", torch, "seed"),
    ]
    if numpy is not None:
        owners += [("np.random.seed", numpy.random, "seed"), ("np.random.default_rng", numpy.random, "default_rng")]
    try:
        for what, owner, name in owners:
            put(owner, name, _seeder(seen, what, getattr(owner, name)))
        put(torch, "Generator", _torch_generator(seen))
        for what, owner, name in (
            ("time.time", time, "time"), ("time.time_ns", time, "time_ns"), ("time.perf_counter", time, "perf_counter"),
            ("os.urandom", os, "urandom"), ("uuid.uuid4", uuid, "uuid4"),
        ):  # fmt: skip
            put(owner, name, _clock(seen, what, getattr(owner, name)))
        # `from random import seed` binds the function itself.
        for module in list(sys.modules.values()):
            if isinstance(module, types.ModuleType) and is_users(getattr(module, "__file__", None) or "<unknown>"):
                for name, value in list(vars(module).items()):
                    if id(value) in replaced and value is not replaced[id(value)]:
                        put(module, name, replaced[id(value)])
        yield
    finally:
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)


def _seeder(seen: SeedWatch, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        name = next((n for n in ("seed", "a") if n in kwargs), None)
        given = args[0] if args else (kwargs[name] if name else None)
        seed = seen.seeding(what, given)
        if args:
            return original(seed, *args[1:], **kwargs)
        return original(**({**kwargs, name: seed} if name else kwargs))

    return call


def _torch_generator(seen: SeedWatch) -> type:
    class Meta(type(TorchGenerator)):  # type: ignore[misc]  # torch's own metaclass, which has no public name
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, TorchGenerator)

    class Generator(TorchGenerator, metaclass=Meta):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seen.seeding("torch.Generator.manual_seed", seed))

        def seed(self) -> int:
            seen.seeding("torch.Generator.seed", None)
            return super().seed()

    return Generator


def _clock(seen: SeedWatch, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        seen.clock(what)
        return original(*args, **kwargs)

    return call


def _callers_place(what: str) -> Place | None:
    """The line that called, if it is the user's own and no library's."""
    frame = sys._getframe(3)
    if not is_users(frame.f_code.co_filename):
        return None
    return place_at(what, frame.f_code.co_filename, frame.f_lineno)
