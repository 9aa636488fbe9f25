"""train-eval-mode over evidence made by hand."""

import dataclasses

import pytest

from nncheck.checks.loop.train_eval_mode import FEWEST_TRAINED, train_eval_mode
from nncheck.probes.modes_seen import ModesSeen
from nncheck.verdict import Place, Status

HEALTHY = ModesSeen(
    layers=1, named=("drop",), trained_train=25, trained_eval=0, began_in_eval=False, stayed=None, switched=None,
    trained_at=None, validated_train=0, validated_eval=12, validated_at=None, active=(), scored=False,
)  # fmt: skip
LINE = Place(name="Net", file="train.py", line=7)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.PASS),
        ({"validated_eval": 0}, Status.PASS),
        ({"layers": 0, "named": ()}, Status.SKIP),
        ({"trained_eval": 16, "stayed": LINE, "switched": LINE}, Status.FAIL),
        ({"trained_eval": 16}, Status.PASS),  # put there for a stage, without a validation in between
        ({"began_in_eval": True, "trained_train": 0, "trained_eval": FEWEST_TRAINED}, Status.WARN),
        ({"began_in_eval": True, "trained_train": 0, "trained_eval": FEWEST_TRAINED - 1}, Status.PASS),
        ({"began_in_eval": True, "trained_train": 1, "trained_eval": 9}, Status.PASS),
        ({"validated_train": 1, "validated_at": LINE, "active": ("drop",), "scored": True}, Status.FAIL),
        ({"validated_train": 1, "validated_at": LINE, "active": ("drop",)}, Status.WARN),
        ({"layers": 0, "validated_train": 1, "active": ("drop",), "scored": True}, Status.FAIL),
    ],
)
def test_both_sides(changes: dict[str, object], status: Status) -> None:
    verdict = train_eval_mode(dataclasses.replace(HEALTHY, **changes))  # type: ignore[arg-type]
    assert verdict.status is status
    assert verdict.status is Status.SKIP or verdict.measured
