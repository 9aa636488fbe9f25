"""The corpus itself: every set-up can be made and gives a loss. What the checks say of it is `make score`'s matter."""

from __future__ import annotations

import math
import re
from collections import Counter

import pytest
import torch

from nncheck.errors import NNCheckError
from nncheck.lab.sandbox import Sandbox
from nncheck.recipe import Recipe
from nncheck.registry import catalogue
from nncheck.target.assemble import assemble
from tests.corpus import Sound, Twin, corpus, tuned

TWINS, SOUNDS = corpus()
IDS = {entry.id for entry in catalogue()}

BREAKS = {"forward-pass", "finite-values"}
"""The checks of set-ups that do not run, or run to no number: the only ones whose faulty twin may do so here."""


def test_there_are_enough() -> None:
    assert len(TWINS) >= 150
    assert len(SOUNDS) >= 60
    assert len({t.row for t in TWINS}) >= 100


@pytest.mark.parametrize("members", [TWINS, SOUNDS], ids=["twins", "sound"])
def test_both_halves_are_large(members: tuple[Twin | Sound, ...]) -> None:
    share = sum(tuned(m.name) for m in members) / len(members)
    assert 0.35 < share < 0.65


def test_no_two_set_ups_share_a_name() -> None:
    names = Counter(m.name for m in (*TWINS, *SOUNDS))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_twin_names_its_row_and_checks_that_exist() -> None:
    assert [t.name for t in TWINS if not t.expected or not re.fullmatch(r"[A-Z]\d\d", t.row)] == []
    assert {id: t.name for t in TWINS for id in t.expected if id not in IDS} == {}


def loss_of(recipe: Recipe) -> float:
    """The loss of the first batch; the state of generators is put back."""
    setup = assemble(recipe, seed=0, device=torch.device("cpu"))
    sandbox = Sandbox(setup, seed=0, device=torch.device("cpu"))
    with sandbox.trial(mode="train", seed=0):
        return float(sandbox.forward(sandbox.feed.first).loss)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("twin", TWINS, ids=lambda t: t.name)
def test_twins_differ_by_a_fault_only(twin: Twin) -> None:
    """The healthy twin gives a finite loss; the faulty one too, unless its fault is that it cannot."""
    assert math.isfinite(loss_of(twin.make(False)))
    try:
        loss = loss_of(twin.make(True))
    except NNCheckError:
        loss = math.nan
    assert math.isfinite(loss) or BREAKS & set(twin.expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sound", SOUNDS, ids=lambda s: s.name)
def test_sound_set_ups_give_a_loss(sound: Sound) -> None:
    assert math.isfinite(loss_of(sound.make()))
