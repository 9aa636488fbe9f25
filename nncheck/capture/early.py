"""What matters of a script's beginning, before its first step: when it sets seeds, and whether it steps a schedule already."""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from nncheck.lab.interception import Patches, kinds_of
from nncheck.observe.source import calling_place, is_users
from nncheck.verdict import Place

if TYPE_CHECKING:
    from nncheck.capture.script import Script

Lines = tuple[tuple[str, str, int], ...]
"""Frames of the user's, the innermost first: file, function, line."""


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """The first time a script seeds one of the global generators. drawn: numbers had been drawn from it before."""

    generator: str
    place: Place
    drawn: bool
    lines: Lines


@dataclass(kw_only=True)
class Early:
    """seeds: the first of each generator, in order. schedules: those that were stepped, and where. step: where its first step was.

    path, arguments, folder, environment, seed, cpu: what the script was run with, for whoever runs it again.
    seconds: how long it took to its first step.
    """

    path: str
    arguments: tuple[str, ...]
    seeds: dict[str, Seeded] = field(default_factory=dict)
    schedules: list[tuple[Any, Place]] = field(default_factory=list)
    step: Lines = ()
    folder: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    cpu: bool = False
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def reached(self) -> None:
        """The first step is reached."""
        self.step, self.seconds = lines(), time.monotonic() - self.began


def states() -> dict[str, bytes]:
    """The state of each global generator."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "NumPy": repr(np.random.get_state(legacy=False)).encode(),
        "Python": repr(random.getstate()).encode(),
    }


def watch_early(script: Script, patches: Patches, *, cpu: bool) -> None:
    """Note in `script.early` what happens until its first step."""
    early = script.early
    begun = states()
    early.began = time.monotonic()
    early.folder, early.environment, early.seed, early.cpu = os.getcwd(), dict(os.environ), torch.initial_seed(), cpu
    for owner, name, generator in (
        (torch, "manual_seed", "torch"), (torch.random, "manual_seed", "torch"), (np.random, "seed", "NumPy"),
        (random, "seed", "Python"),
    ):  # fmt: skip
        patches.put(owner, name, _seeding(script, vars(owner)[name], generator, begun))
    patches.put(builtins, "__import__", _importing(script, begun))
    for kind in kinds_of(LRScheduler):
        if "step" in vars(kind):
            patches.put(kind, "step", _stepping(script, vars(kind)["step"]))


def _seeding(script: Script, real: Callable[..., Any], generator: str, begun: dict[str, bytes]) -> Callable[..., Any]:
    def seed(*args: Any, **kwargs: Any) -> Any:
        if script.mode == "record" and generator not in script.early.seeds:
            place = calling_place(f"{generator} is seeded")
            if place.file is not None:
                script.early.seeds[generator] = Seeded(
                    generator=generator, place=place, drawn=states()[generator] != begun[generator], lines=lines()
                )
        return real(*args, **kwargs)

    return seed


def _importing(script: Script, begun: dict[str, bytes]) -> Callable[..., Any]:
    """What a library draws while it is imported, it draws for itself: `begun` is then the state behind it."""
    real = builtins.__import__
    busy = False

    def bring(name: str, globals: Any = None, *rest: Any, **options: Any) -> Any:
        nonlocal busy
        asking = (globals or {}).get("__file__") or ""
        if busy or script.mode != "record" or name in sys.modules or not asking or not is_users(asking):
            return real(name, globals, *rest, **options)
        spec = None
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is None or not spec.origin or is_users(spec.origin):
            return real(name, globals, *rest, **options)
        before, busy = states(), True
        try:
            return real(name, globals, *rest, **options)
        finally:
            busy = False
            begun.update({g: state for g, state in states().items() if before[g] == begun[g]})

    return bring


def _stepping(script: Script, real: Callable[..., Any]) -> Callable[..., Any]:
    def step(schedule: Any, *args: Any, **kwargs: Any) -> Any:
        # With an epoch's number it is set, not moved on.
        if script.mode == "record" and not args and not kwargs:
            place = calling_place(f"{type(schedule).__name__}.step")
            if place.file is not None and _called_by_others():
                script.early.schedules.append((schedule, place))
        return real(schedule, *args, **kwargs)

    return step


def _called_by_others() -> bool:
    """Whether a schedule is stepped from outside: not by its own making, nor by one that holds it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(os.path.dirname(__file__)):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") != LRScheduler.__module__


def lines() -> Lines:
    """Where the user's frames stand now."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            found.append((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)
