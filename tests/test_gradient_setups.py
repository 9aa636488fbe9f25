"""The checks on finiteness, gradients and coverage, alone, on many small set-ups: each fault by its check, no false alarm."""

import importlib
import pkgutil

import pytest
import torch

import nncheck
import tests.gradient_setups
from tests.gradient_setups.parts import SICK, SOUND

CHECKS = ["forward-pass", "finite-values", "gradient-flow", "symmetry", "unused-parameters", "optimizer-coverage"]

for _module in pkgutil.iter_modules(tests.gradient_setups.__path__):
    importlib.import_module(f"tests.gradient_setups.{_module.name}")


@pytest.mark.parametrize("name", SICK)
def test_the_fault_is_found_first(name: str) -> None:
    torch.manual_seed(0)
    make, expected = SICK[name]
    target = nncheck.check(make(), select=CHECKS).targets[0]
    assert target.findings[:1] == (expected,), [(c.id, c.status, c.summary) for c in target.checks]


@pytest.mark.parametrize("name", SOUND)
def test_sound_set_ups_are_quiet(name: str) -> None:
    torch.manual_seed(0)
    target = nncheck.check(SOUND[name](), select=CHECKS).targets[0]
    assert target.findings == (), [(c.id, c.status, c.summary) for c in target.checks]
    assert target.verdict == "pass", target.problem
