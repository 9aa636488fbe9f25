"""The loss of the first batch twice from the same state and seed, and the first layer that differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from nncheck.lab import fingerprint
from nncheck.lab.chance import SeedWatch, private_generators, same_state, watch_seeding
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.source import layer_place
from nncheck.registry import probe
from nncheck.verdict import Place

# A sum taken in another order, as on an accelerator, differs by less; what chance adds is rarely so small.
ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class LossRepeats:
    """Two forward passes in train mode from one state, one seed and one batch.

    differs: |a - b| / max(|a|, |b|); nothing but rounding where `equal` is true. layer: the first whose output differs.
    private: unseeded generators of the model's or loss's own that were drawn from. unseeded: calls that make chance
    unrepeatable.
    """

    first: float
    second: float
    layer: Place | None = None
    private: tuple[str, ...] = ()
    unseeded: tuple[Place, ...] = ()

    @property
    def differs(self) -> float:
        if self.first == self.second or (self.first != self.first and self.second != self.second):
            return 0.0
        return abs(self.first - self.second) / max(abs(self.first), abs(self.second))

    @property
    def equal(self) -> bool:
        return self.differs <= ROUNDING


@probe
def loss_repeats(sandbox: Sandbox) -> LossRepeats:
    """Two forward passes; two more to find the layer if they differ."""
    batch = sandbox.feed.first
    setup = sandbox.setup
    roots = [("model", sandbox.model), ("loss_fn", setup.loss_fn), ("training_step", setup.training_step)]
    generators = private_generators(roots)
    states = [g.state() for g in generators]
    drawn: set[str] = set()
    unseeded: list[Place] = []

    def once(marks: list[tuple[str, str]] | None = None) -> float:
        def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if marks is not None:
                marks.append((name, fingerprint.of(output)))

        watch = SeedWatch()
        with sandbox.trial(), watch_seeding(watch):
            try:
                loss = float(sandbox.forward(batch, modules=(note,) if marks is not None else ()).loss.detach())
            finally:
                for generator, state in zip(generators, states, strict=True):
                    if not same_state(state, generator.state()):
                        generator.put_back(state)  # a global one is not put back by the trial
                        if generator.unseeded:
                            drawn.add(generator.name)
        unseeded.extend(s.place for s in watch.seedings if not s.fixed)
        clocks.extend(s.place for s in watch.clocks)
        return loss

    clocks: list[Place] = []
    first, second = once(), once()
    found = LossRepeats(first=first, second=second)
    layer = None
    if not found.equal:
        one: list[tuple[str, str]] = []
        other: list[tuple[str, str]] = []
        once(one)
        once(other)
        name = next((a[0] for a, b in zip(one, other, strict=False) if a != b), None)
        if name is not None:
            layer = layer_place(sandbox.model, name) if name else None
        unseeded.extend(clocks)  # a model may measure its time; only where the loss differs is that suspect
    return LossRepeats(
        first=first,
        second=second,
        layer=layer,
        private=tuple(sorted(drawn)),
        unseeded=tuple(dict.fromkeys(unseeded)),
    )
