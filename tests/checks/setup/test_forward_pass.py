"""forward-pass on evidence made by hand."""

import pytest

from nncheck.checks.setup.forward_pass import forward_pass
from nncheck.verdict import Place, Status
from tests.checks.setup.test_finite_values import first


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({}, Status.PASS, "loss 1"),
        ({"connected": False}, Status.FAIL, "no gradient"),
        ({"swapped": "cross-entropy", "swapped_place": Place(name="loss")}, Status.FAIL, "swapped"),
        ({"single": "the output is float32[4] instead of 2 dimensions"}, Status.WARN, "one sample"),
        ({"single": "x" * 500, "single_raises": True}, Status.FAIL, "..."),
    ],
)
def test_verdict(changed: dict[str, object], status: Status, word: str) -> None:
    verdict = forward_pass(first(**changed))
    assert verdict.status is status
    assert word in f"{verdict.summary} {verdict.measured}"
