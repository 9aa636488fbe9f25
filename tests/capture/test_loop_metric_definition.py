"""metric-definition, through scripts that are run: each is the healthy one with a single edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import asked, edited, loop_findings

ID = "metric-definition"
HEALTHY = edited(
    (
        "    print(epoch, hits / len(val_loader.dataset))\n",
        "    acc = hits / len(val_loader.dataset)\n    print(epoch, acc)\n",
    )
)
HITS = "(model(inputs).argmax(1) == labels).sum().item()"
DIVIDED = "hits / len(val_loader.dataset)"
BROKEN = {
    "divided by the batches": edited((DIVIDED, "hits / len(val_loader)"), text=HEALTHY),
    "means of batches divided by the samples": edited((HITS, HITS.replace("sum()", "float().mean()")), text=HEALTHY),
    "the last batch alone": edited(("hits +=", "hits ="), text=HEALTHY),
    "the least likely": edited((HITS, HITS.replace("argmax", "argmin")), text=HEALTHY),
    "classes counted from one": edited((HITS, HITS.replace("labels", "labels - 1")), text=HEALTHY),
    "two shapes compared": edited((HITS, HITS.replace("labels", "labels[:, None]")), text=HEALTHY),
    "printed only": edited(
        (
            "    print(epoch, hits / len(val_loader.dataset))\n",
            '    print(f"accuracy: {100 * hits / len(val_loader):.1f} %")\n',
        )
    ),
}
NEAR = {
    "a share": HEALTHY,
    "in percent": edited((DIVIDED, "100.0 * " + DIVIDED), text=HEALTHY),
    "a mean of batches": edited(
        (HITS, HITS.replace("sum()", "float().mean()")), (DIVIDED, "hits / len(val_loader)"), text=HEALTHY
    ),
    "printed as counts": edited(
        (
            "    print(epoch, hits / len(val_loader.dataset))\n",
            '    print(f"Accuracy: {hits}/64 ({100 * hits / 64:.0f}%)")\n',
        )
    ),
}
UNKNOWN = {
    "a count": edited((DIVIDED, "hits"), text=HEALTHY),
    "a loss called so": edited((HITS, "F.cross_entropy(model(inputs), labels).item()"), text=HEALTHY),
    "several looks at a batch": edited(
        ("model(inputs).argmax", "(model(inputs) + model(-inputs)).argmax"), text=HEALTHY
    ),
    "only a part is counted": edited(
        ("hits = 0", "acc = 0.0"),
        ("hits += " + HITS, "acc += (model(inputs).argmax(1) == labels)[labels > 0].float().sum()"),
        ("    print(epoch, hits / len(val_loader.dataset))\n", "    print(epoch, acc / (y[96:] > 0).sum())\n"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_perfect_predictions_that_do_not_score_one_are_the_first_finding(name: str, tmp_path: Path) -> None:
    assert loop_findings(BROKEN[name], tmp_path)[:1] == [ID]


def test_the_line_of_the_metric_is_named(tmp_path: Path) -> None:
    check = asked(BROKEN["divided by the batches"], tmp_path, ID).results[0].check(ID)
    assert [place.source for place in check.verdict.places] == ["acc = hits / len(val_loader)"]
    assert check.verdict.numbers["perfect"] == 32.0


@pytest.mark.parametrize("name", NEAR)
def test_a_right_metric_passes(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == "pass"


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_accuracy_is_not_judged(name: str, tmp_path: Path) -> None:
    assert asked(UNKNOWN[name], tmp_path, ID).status(ID) == "skip"
