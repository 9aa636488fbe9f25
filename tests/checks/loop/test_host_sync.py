"""host-sync over evidence made by hand."""

import pytest

from nncheck.checks.loop.host_sync import LEAST_CALLS, MANY, host_sync
from nncheck.probes.device_waits import AskingLine, DeviceWaits
from nncheck.verdict import Place, Status


def _waits(counts: list[int], rows: int, calls: int) -> DeviceWaits:
    line = AskingLine(
        place=Place(name="item", file="train.py", line=7),
        counts=tuple(counts),
        rows=(rows,) * len(counts),
        calls=calls,
        training=True,
    )
    return DeviceWaits(lines=(line,) if counts else (), calls=calls)


@pytest.mark.parametrize(
    ("counts", "rows", "calls", "status"),
    [
        ([], 32, 0, Status.SKIP),
        ([], 32, 12, Status.PASS),
        ([1] * 12, 32, 12, Status.PASS),
        ([32] * 12, 32, 12, Status.WARN),
        ([MANY] * 12, MANY, 12, Status.WARN),
        ([MANY - 1] * 12, MANY - 1, 12, Status.PASS),
        ([MANY] * 12, MANY + 1, 12, Status.PASS),  # a few classes of each batch, say
        ([32] * LEAST_CALLS, 32, 2 * LEAST_CALLS, Status.WARN),
        ([32] * LEAST_CALLS, 32, 2 * LEAST_CALLS + 1, Status.PASS),  # now and then
        ([32] * (LEAST_CALLS - 1), 32, LEAST_CALLS - 1, Status.PASS),
        ([1] * 1000, 1, 1000, Status.PASS),  # one action a step
    ],
)
def test_both_sides(counts: list[int], rows: int, calls: int, status: Status) -> None:
    verdict = host_sync(_waits(counts, rows, calls))
    assert verdict.status is status
    assert len(verdict.places) == (status is Status.WARN)
