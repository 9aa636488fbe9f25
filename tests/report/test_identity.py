"""Which finding it is: lines, figures, seeds and arguments come and go, the layer and the check stay."""

from __future__ import annotations

import dataclasses

import pytest

from nncheck.report.identity import fingerprint, identities, target_key
from nncheck.report.paths import from_root, target_file, without_home
from nncheck.verdict import CheckResult, Place, TargetResult, failed
from tests.report import golden


def _finding(*places: Place, said: str = "412 of 512 units are dead") -> CheckResult:
    result = golden.target().check("dead-relu")
    return dataclasses.replace(result, verdict=failed(said, expected="at most 40 %", places=places))


def _of(target: str = "models/net.py", file: str = "", *places: Place) -> str:
    return fingerprint(dataclasses.replace(golden.target(target), file=file), _finding(*places))


RELU = Place(name="layer3.relu", file="net.py", line=30, column=9, source="self.relu = nn.ReLU()", detail="412 of 512")


def test_a_readable_key_for_each_place() -> None:
    target = golden.target()
    assert identities(target, _finding(RELU, Place(name="head"))) == ("dead-relu | layer3.relu", "dead-relu | head")
    assert identities(target, _finding()) == ("dead-relu",)
    sample = Place(name="sample 12 of batch 3", file="lib/data.py", line=5, source="return x / x.sum()")
    assert identities(target, _finding(sample)) == ("dead-relu | data.py: return x / x.sum()",)
    no_line = Place(name="sample 12 of batch 3")
    assert identities(target, _finding(no_line, Place(name="sample 7 of batch 1"))) == (
        "dead-relu | sample # of batch #",
    )


@pytest.mark.parametrize(
    "changed",
    [
        _finding(dataclasses.replace(RELU, line=90, end_line=90, detail="97 of 512"), said="97 of 512 units are dead"),
        _finding(dataclasses.replace(RELU, file="other/net.py", source="self.relu = nn.ReLU(inplace=True)")),
        dataclasses.replace(_finding(RELU), accepted="on purpose", known=True, seconds=3.0),
    ],
)
def test_what_moves_or_is_measured_anew_is_the_same_finding(changed: CheckResult) -> None:
    target = golden.target()
    assert fingerprint(target, changed) == fingerprint(target, _finding(RELU))


def test_another_layer_check_or_file_is_another_finding() -> None:
    prints = [
        _of("net.py", "", RELU),
        _of("net.py", "", dataclasses.replace(RELU, name="layer4.relu")),
        _of("other.py", "", RELU),
        _of("net.py:build", "", RELU),
        fingerprint(golden.target("net.py"), dataclasses.replace(_finding(RELU), id="saturation")),
        fingerprint(golden.target("net.py"), None),
        _of("net.py [Adam of netD]", "", RELU),
    ]
    assert len(set(prints)) == len(prints)


def test_the_target_is_its_file_in_the_repository_however_it_was_typed() -> None:
    same = {
        _of("net.py", "models/net.py", RELU),
        _of("./models/net.py", "models/net.py", RELU),
        _of("/home/ada/repo/models/net.py -- --epochs 3", "models/net.py", RELU),
        _of("net.py -- --data /var/tmp/x1", "models/net.py", RELU),
    }
    assert len(same) == 1

    def key(typed: str, file: str = "") -> str:
        target: TargetResult = dataclasses.replace(golden.target(typed), file=file)
        return target_key(target)

    assert key("m.py:build -- --x 1 [Adam of netD]", "lib/m.py") == "lib/m.py:build [Adam of netD]"
    assert key("pkg.nets:build", "pkg/nets.py") == "pkg/nets.py:build"
    assert key("SmallNet") == "SmallNet"


def test_paths_from_the_root() -> None:
    report = dataclasses.replace(golden.report(golden.target("net.py")), folder="experiments/vision")
    assert from_root(report, "net.py") == "experiments/vision/net.py"
    assert from_root(report, "../../lib/a b.py") == "lib/a b.py"
    for outside in ("/usr/lib/a.py", "../../../a.py", "C:\\a.py", "<ipython-input-3>"):
        assert from_root(report, outside) is None
    windows = dataclasses.replace(report, environment={"platform": "Windows-11"})
    assert from_root(windows, "..\\lib\\net.py") == "experiments/lib/net.py"
    assert target_file(report, report.targets[0]) == "experiments/vision/net.py"
    assert target_file(report, dataclasses.replace(report.targets[0], file="lib/net.py")) == "lib/net.py"
    for typed in ("SmallNet", "/elsewhere/net.py", "pkg.nets"):
        assert target_file(report, golden.target(typed)) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("File '/home/ada/x.py', line 3", "File '~/x.py', line 3"),
        ("/Users/ada/a b", "~/a b"),
        ("C:\\Users\\ada\\x.py", "~\\x.py"),
        ("/root/x and /srv/home/ada/x", "~/x and /srv/home/ada/x"),
        ("a/home/b", "a/home/b"),
    ],
)
def test_home_folders_are_shortened(text: str, shown: str) -> None:
    assert without_home(text) == shown
