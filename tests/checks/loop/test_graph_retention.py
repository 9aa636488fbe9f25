"""graph-retention over evidence made by hand."""

import pytest

from nncheck.checks.loop.graph_retention import LEAST_PASSES, LONGEST_WINDOW, MOST, graph_retention
from nncheck.probes.kept_graphs import KeptGraphs
from nncheck.verdict import Place, Status

LINE = Place(name="losses", file="train.py", line=7)


def _kept(alive: list[int], epochs: list[int] | None = None, holder: Place | None = None) -> KeptGraphs:
    return KeptGraphs(
        alive=tuple(alive),
        epochs=tuple(epochs or [1] * len(alive)),
        passes=tuple(range(len(alive))),
        graphs=max(alive, default=0),
        nodes=5 * max(alive, default=0),
        bytes=0,
        holder=holder,
    )


@pytest.mark.parametrize(
    ("alive", "epochs", "status"),
    [
        ([], None, Status.SKIP),
        ([0] * LEAST_PASSES, None, Status.SKIP),
        ([0] * 20, None, Status.PASS),
        ([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], None, Status.PASS),
        ([0, 0, 0, *range(1, 20)], None, Status.FAIL),
        ([0, 0, 0, *range(1, MOST + 1)], None, Status.FAIL),
        ([0, 0, 0, 0, *range(1, MOST)], None, Status.PASS),
        # A window of fixed length stands still once it is full.
        ([0, 0, 0, *range(1, 7), *[6] * 12], None, Status.PASS),
        # A sum is begun anew with each epoch, or a window is emptied somewhere inside of one.
        ([0, 0, *range(7), 0, *range(8)], [1] * 9 + [2] * 9, Status.FAIL),
        ([0, 0, *range(7), 0, *range(8)], [1] * 18, Status.PASS),
        ([*range(LONGEST_WINDOW + 1), *range(LONGEST_WINDOW + 1)], [1] * (2 * LONGEST_WINDOW + 2), Status.FAIL),
        ([*range(LONGEST_WINDOW), *range(LONGEST_WINDOW)], [1] * (2 * LONGEST_WINDOW), Status.PASS),
    ],
)
def test_both_sides(alive: list[int], epochs: list[int] | None, status: Status) -> None:
    verdict = graph_retention(_kept(alive, epochs))
    assert verdict.status is status
    assert verdict.status is Status.SKIP or verdict.measured


def test_who_holds_them_is_said_where_it_is_known() -> None:
    known, unknown = graph_retention(_kept([*range(12)], holder=LINE)), graph_retention(_kept([*range(12)]))
    assert known.places == (LINE,)
    assert "losses" in known.summary
    assert unknown.status is Status.FAIL
    assert unknown.places == ()
