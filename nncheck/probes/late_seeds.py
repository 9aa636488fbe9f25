"""Seeds that a script sets after it has drawn numbers already: whether its first step depends on those."""

from __future__ import annotations

from dataclasses import dataclass

from nncheck.capture.early import Early, Seeded
from nncheck.capture.twins import compare
from nncheck.capture.witnesses.step_lines import share_a_loop
from nncheck.errors import CannotMeasure
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The first seed that a script sets for one generator.

    drawn: numbers had been drawn from it before. again: it is set inside the loop that trains, each time round.
    If drawn, two runs were compared that differ in those numbers alone. weights: how many of so many `tensors` of the models then
    differ; data: the first batch does; settled: after the seed the generator stands at the same place in both.
    """

    generator: str
    place: Place
    drawn: bool
    again: bool
    weights: int = 0
    tensors: int = 0
    data: bool = False
    settled: bool = False


@dataclass(frozen=True, kw_only=True)
class LateSeeds:
    """Every generator's first seed, in the order in which the script sets them."""

    seeds: tuple[Seed, ...]


@probe
def late_seeds(sandbox: Sandbox) -> LateSeeds:
    """Take what was noted while the script began; only for a seed that may be late it is run again."""
    early: Early | None = getattr(sandbox.setup.training_step, "early", None)
    if early is None:
        raise CannotMeasure("the target is not a script whose beginning was watched")
    return LateSeeds(seeds=tuple(_seed(sandbox, early, seeded) for seeded in early.seeds.values()))


def _seed(sandbox: Sandbox, early: Early, seeded: Seeded) -> Seed:
    again = share_a_loop(seeded.lines, early.step)
    plain = Seed(generator=seeded.generator, place=seeded.place, drawn=seeded.drawn, again=again)
    if again or not seeded.drawn:
        return plain
    found = compare(early, seeded.generator, sandbox.check_time)
    return Seed(
        generator=seeded.generator,
        place=seeded.place,
        drawn=True,
        again=False,
        weights=found.weights,
        tensors=found.tensors,
        data=found.data,
        settled=found.settled,
    )
