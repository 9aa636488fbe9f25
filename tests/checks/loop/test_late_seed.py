"""late-seed over evidence made by hand."""

import pytest

from nncheck.checks.loop.late_seed import late_seed
from nncheck.probes.late_seeds import LateSeeds, Seed
from nncheck.verdict import Place, Status


def _seed(**known: object) -> Seed:
    given = {
        "generator": "torch",
        "place": Place(name="seed"),
        "drawn": True,
        "again": False,
        "tensors": 4,
        "settled": True,
    }
    return Seed(**(given | known))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "status"),
    [
        ((), Status.SKIP),
        ((_seed(drawn=False, settled=False),), Status.PASS),
        ((_seed(again=True, settled=False),), Status.PASS),
        ((_seed(),), Status.PASS),
        ((_seed(weights=1),), Status.FAIL),
        ((_seed(data=True),), Status.FAIL),
        ((_seed(weights=4, data=True, settled=False),), Status.PASS),
        ((_seed(generator="NumPy", drawn=False, settled=False), _seed(weights=4)), Status.FAIL),
    ],
)
def test_both_sides(seeds: tuple[Seed, ...], status: Status) -> None:
    verdict = late_seed(LateSeeds(seeds=seeds))
    assert verdict.status is status
    assert verdict.why_skipped or verdict.measured
