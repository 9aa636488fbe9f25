"""checkpoint on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.resume.checkpoint import checkpoint
from nncheck.probes.round_trip import EarlierLoad, Lost, RoundTrip
from nncheck.verdict import Place, Status

SAME = RoundTrip(
    refused="", refused_place=None, untaken=(), untied=(), copies=(), outputs=0.0, update=0.0, loss=0.0, rates=(0.1, 0.1),
    lost=(), random=(), optimizer="Adam", scheduler="", noise=0.0, compared=True,
)  # fmt: skip
HERE = Place(name="mean", file="model.py", line=9)


def _lost(name: str, kind: str) -> tuple[Lost, ...]:
    return (Lost(name=name, kind=kind, place=HERE),)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, Status.PASS),
        ({"refused": "RuntimeError: missing keys"}, Status.FAIL),
        ({"untaken": ("first.weight",)}, Status.FAIL),
        ({"untied": (("embed.weight", "head.weight"),)}, Status.FAIL),
        ({"outputs": 1e-5}, Status.PASS),
        ({"outputs": 1.1e-5}, Status.FAIL),
        ({"outputs": math.inf}, Status.FAIL),
        ({"outputs": 1e-4, "noise": 2e-5}, Status.PASS),
        ({"loss": 1.1e-5}, Status.FAIL),
        ({"update": 1e-3}, Status.PASS),
        ({"update": 1.1e-3}, Status.FAIL),
        ({"update": 0.5, "noise": 2e-3}, Status.SKIP),
        ({"update": 0.5, "compared": False}, Status.SKIP),
        ({"untaken": ("first.weight",), "compared": False}, Status.FAIL),
        ({"rates": (0.1, 0.09)}, Status.FAIL),
        ({"random": (HERE,)}, Status.WARN),
        ({"copies": (HERE,)}, Status.WARN),
        ({"lost": _lost("passes", "number")}, Status.PASS),
        ({"lost": _lost("last", "tensor")}, Status.PASS),
        ({"lost": _lost("shadow[0]", "weights")}, Status.WARN),
    ],
)
def test_round_trip(changed: dict[str, object], status: Status) -> None:
    assert checkpoint(dataclasses.replace(SAME, **changed)).status is status


@pytest.mark.parametrize(
    ("given", "matched", "likeness", "status"),
    [
        (4, 0, math.nan, Status.FAIL),
        (0, 0, math.nan, Status.PASS),
        (4, 1, 1.0, Status.PASS),
        (4, 4, 0.26, Status.PASS),
        (4, 4, 0.24, Status.FAIL),
        (4, 4, math.nan, Status.PASS),
    ],
)
def test_what_was_loaded_before(given: int, matched: int, likeness: float, status: Status) -> None:
    load = EarlierLoad(name="", given=given, matched=matched, likeness=likeness, place=HERE)
    assert checkpoint(dataclasses.replace(SAME, earlier=(load,))).status is status


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("mean", "tensor", 'self.register_buffer("mean"'),
        ("step", "number", 'self.register_buffer("step", torch.tensor'),
        ("optimizer.buffers[0]", "tensor", "self.state[p]"),
        ("layers[0].weight", "weights", "nn.ModuleList"),
    ],
)
def test_what_to_do(name: str, kind: str, words: str) -> None:
    verdict = checkpoint(dataclasses.replace(SAME, update=0.5, lost=_lost(name, kind)))
    assert name in verdict.summary
    assert words in f"{verdict.remedies[0].text} {verdict.remedies[0].code}"
