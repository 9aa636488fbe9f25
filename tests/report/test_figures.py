"""The pictures: that each shape is drawn, survives odd values and a strict policy, and stays small."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from nncheck.report import figures
from nncheck.report.describe import describe, describe_sample
from nncheck.report.drawing import omitted
from nncheck.report.drawing.axes import ALARM, COLOURS, MAX_POINTS, guide_label, log_ticks, spread, thin, tick_label
from nncheck.report.drawing.bars import MAX_BARS, pick_bars
from nncheck.report.text import shorten_name
from nncheck.verdict import Bars, Curve, Exhibit, Guide, Heatmap, Histogram, Line, Panel, Sample, Samples
from tests.report import golden

NAN, INF = float("nan"), float("inf")


def svg(exhibit: Exhibit) -> str | None:
    with figures.drawing():
        return figures.to_svg(exhibit, "key")


SHAPES: dict[str, Exhibit] = {
    "curve": golden.curve(),
    "histogram": golden.histogram(15),
    "one histogram": golden.histogram(1),
    "bars": golden.bars(),
    "many bars": golden.bars(61),
    "heat map": golden.heatmap(),
    "large heat map": golden.heatmap(100),
    "hostile bars": golden._hostile_exhibits()[0],
    "hostile curve": golden._hostile_exhibits()[1],
}


@pytest.mark.parametrize("name", SHAPES)
def test_svg_needs_no_style_sheet(name: str) -> None:
    drawn = svg(SHAPES[name])
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    for element in root.iter():
        assert "style" not in element.attrib
        assert not element.tag.endswith(("style", "script", "image", "metadata", "foreignObject"))
        assert not any(name.startswith("on") for name in element.attrib)
    assert root.get("role") == "img"
    assert root.get("aria-label") == describe(SHAPES[name])
    assert float(root.get("width", "0")) > 100
    assert 'fill="currentColor"' in drawn
    assert "#010203" not in drawn
    # Every reference leads to an id in here, and no id is there twice.
    ids = [element.get("id") for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawn)) == set(ids)
    assert len(drawn) < 60_000


def test_drawing_is_reproducible() -> None:
    assert svg(golden.curve()) == svg(golden.curve())


def test_settings_of_the_user_neither_matter_nor_change() -> None:
    plain = svg(golden.bars())
    with mpl.rc_context({"font.size": 40, "axes.grid": True, "savefig.bbox": "tight"}):
        assert svg(golden.bars()) == plain
        assert mpl.rcParams["font.size"] == 40
        assert mpl.rcParams["text.parse_math"]


ODD: dict[str, Exhibit] = {
    "no line": Curve(title="t", x_label="x", y_label="y", lines=()),
    "empty line": Curve(title="t", x_label="x", y_label="y", lines=(Line(label="a", x=(), y=()),)),
    "no finite value": Curve(title="t", x_label="x", y_label="y", lines=(Line(label="a", x=(0.0, 1.0), y=(NAN, INF)),)),
    "no panel": Histogram(title="t", x_label="x", panels=()),
    "no bar": Bars(title="t", x_label="x", labels=(), values=()),
    "no finite bar": Bars(title="t", x_label="x", labels=("a",), values=(NAN,), log=True),
    "no row": Heatmap(title="t", x_label="x", y_label="y", values=()),
    "no cell": Heatmap(title="t", x_label="x", y_label="y", values=((), ())),
}


@pytest.mark.parametrize("name", [name for name in ODD if name != "no finite bar"])
def test_nothing_to_draw_is_no_picture(name: str) -> None:
    assert svg(ODD[name]) is None
    assert describe(ODD[name])


@pytest.mark.parametrize(
    "exhibit",
    [
        Curve(title="t", x_label="x", y_label="y", lines=(Line(label="a", x=(0.0,), y=(2.0,)),), log_y=True),
        Curve(title="t", x_label="x", y_label="y", lines=(Line(label="a", x=(0.0, 1.0), y=(0.0, -1.0)),), log_y=True),
        Curve(title="t", x_label="x", y_label="y", lines=(Line(label="_a", x=(1e-6, 1e-1), y=(3.0, 3.0)),), log_x=True),
        Curve(
            title="t",
            x_label="x",
            y_label="y",
            lines=tuple(Line(label=f"seed {k}", x=(0.0, 1.0), y=(k, k + 1.0)) for k in range(9)),
            guides=(Guide(label="floor", value=-5.0),),
        ),
        Histogram(title="t", x_label="x", panels=(Panel(label="a", edges=(0.0, 0.0), counts=(3.0,)),)),
        Histogram(title="t", x_label="x", panels=(Panel(label="a", edges=(NAN, INF), counts=(3.0,)),)),
        Histogram(title="t", x_label="x", panels=(Panel(label="a", edges=(0.0, 1.0), counts=(0.0,)),)),
        Bars(title="t", x_label="x", labels=("a", "b"), values=(-1.0, 1.0), guides=(Guide(label="g", value=3.0),)),
        Bars(title="t", x_label="x", labels=("a", "b"), values=(0.0, 1e-30), log=True),
        Bars(title="t", x_label="x", labels=("a",), values=(0.0,), log=True),
        Heatmap(title="t", x_label="x", y_label="y", values=((0.0,),)),
        Heatmap(title="t", x_label="x", y_label="y", values=((NAN, 1.0), (INF, 1.0))),
        Heatmap(title="t", x_label="x", y_label="y", values=((0.5, 1.0, 2.0), (0.5, 1.0))),
    ],
)
def test_odd_values_are_drawn(exhibit: Exhibit) -> None:
    assert svg(exhibit) is not None


def test_what_is_left_out_is_said() -> None:
    assert omitted(golden.histogram(15)) == "The first 12 of 15; 3 more in the result file."
    assert omitted(golden.histogram(12)) == ""
    assert omitted(golden.bars(61)).startswith("24 of 61")
    assert omitted(golden.heatmap(100)).startswith("Pooled to 32")
    assert omitted(golden.heatmap(32)) == ""


def test_pooling_keeps_a_single_leak() -> None:
    values = tuple(tuple(1.0 if i == j else 0.25 if (i, j) == (3, 70) else 0.0 for j in range(96)) for i in range(96))
    drawn = svg(Heatmap(title="t", x_label="x", y_label="y", values=values))
    assert drawn is not None
    assert "0.25, the smallest above 0" in drawn


@pytest.mark.parametrize("n", [0, 1, MAX_BARS, MAX_BARS + 1, 61, 500])
def test_picked_bars(n: int) -> None:
    values = [math.sin(i) for i in range(n)]
    if n > 40:
        values[37] = NAN
    kept = pick_bars(values)
    assert len(kept) == min(n, MAX_BARS)
    assert kept == sorted(set(kept))
    if n:
        known = [value for value in values if not math.isnan(value)]
        assert {values.index(min(known)), values.index(max(known)), 0, n - 1} <= set(kept)
    if n > 40:
        assert 37 in kept


def test_thinning_keeps_both_ends() -> None:
    assert thin(5) == [0, 1, 2, 3, 4]
    kept = thin(10_001)
    assert (kept[0], kept[-1], len(kept)) == (0, 10_000, MAX_POINTS)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (-2.0, 1.0, ["0.01", "0.1", "1", "10"]),
        (-7.0, 0.0, ["10⁻⁶", "10⁻⁴", "0.01", "1"]),
        (0.0, 1.0, ["1", "2", "5", "10"]),
        (0.31, 0.4, ["2.042", "2.512"]),
    ],
)
def test_ticks_of_a_logarithm(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in log_ticks(low, high)] == labels


def test_tick_labels() -> None:
    assert [tick_label(value) for value in (0.0, -2.5e-7, 1234567.0, 0.25)] == ["0", "−2.5e−7", "1.23e6", "0.25"]


def test_labels_do_not_meet() -> None:
    moved = spread([0.5, 0.9, 0.5, 0.52], 0.1)
    assert moved[1] == pytest.approx(0.9)  # far enough from the others
    assert [moved[k] for k in (0, 2, 3)] == pytest.approx([0.4067, 0.5067, 0.6067], abs=1e-4)
    crowd = sorted(spread([0.01 * k for k in range(9)], 0.1))
    assert all(b - a >= 0.1 - 1e-9 for a, b in itertools.pairwise(crowd))
    assert spread([], 0.1) == []


def test_names_of_layers_keep_what_tells_them_apart() -> None:
    assert shorten_name("encoder.blocks.3.attention.projection.weight", 34) == "enc.blo.3.att.projection.weight"
    assert shorten_name("fc", 34) == "fc"
    assert len(shorten_name("x" * 80, 34)) == 34


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [*COLOURS, ALARM])
@pytest.mark.parametrize("paper", ["#ffffff", "#f6f8fa", "#12161c", "#1a2028"])
def test_colours_are_seen_on_light_and_dark(colour: str, paper: str) -> None:
    dark, light = sorted((luminance(colour), luminance(paper)))
    assert (light + 0.05) / (dark + 0.05) >= 3.0


def test_samples_as_pictures() -> None:
    samples = golden.samples().samples
    grey, colour, text = (figures.sample_png(samples[k]) for k in (0, 6, 10))
    assert grey is not None
    assert grey[0].startswith("data:image/png;base64,")
    assert grey[1:] == (96, 96)
    assert colour is not None
    assert text is None
    large = Sample(caption="large", pixels=tuple(tuple(0 for _ in range(300)) for _ in range(100)))
    drawn = figures.sample_png(large)
    assert drawn is not None
    assert drawn[1] <= 64
    small = Sample(caption="label 3", pixels=((0, 10, 20), (30, 40, 50)))
    assert describe_sample(small) == "label 3: 3 by 2 grey picture, bytes 0 to 50, mean 25"


def test_saved_files(tmp_path: Path) -> None:
    target = golden.target()
    few = dataclasses.replace(target, checks=(target.check("forward-pass"), target.check("dead-relu")))
    written = figures.save_plots(golden.report(few, golden.healthy(), golden.unusable()), tmp_path / "plots")
    assert {path.suffix for path in written} == {".png", ".pdf"}
    assert all(path.parent == tmp_path / "plots" and path.stat().st_size > 2000 for path in written)
    assert (tmp_path / "plots" / "target-1-dead-relu-1.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "plots" / "target-2-overfit-batch-1.pdf").read_bytes().startswith(b"%PDF")


def test_a_foreign_id_names_no_other_folder(tmp_path: Path) -> None:
    target = golden.target()
    evil = dataclasses.replace(target.check("gradient-flow"), id="../../etc/passwd")
    report = golden.report(dataclasses.replace(target, checks=(evil,)))
    assert [path.name for path in figures.save_plots(report, tmp_path)] == ["_etc_passwd-1.png", "_etc_passwd-1.pdf"]


def test_a_picture_that_cannot_be_drawn_costs_only_itself(tmp_path: Path) -> None:
    target = golden.target()
    result = target.check("batch-mixing")
    words = Heatmap(title="odd", x_label="x", y_label="y", values=(("a", "b"),))  # type: ignore[arg-type]
    odd = dataclasses.replace(result, verdict=dataclasses.replace(result.verdict, exhibits=(words, golden.heatmap())))
    written = figures.save_plots(golden.report(dataclasses.replace(target, checks=(odd,))), tmp_path)
    assert [path.name for path in written] == ["batch-mixing-2.png", "batch-mixing-2.pdf"]


def test_a_level_named_by_its_value_is_said_once() -> None:
    assert guide_label(Guide(label="1", value=1.0), 20) == "1"
    assert guide_label(Guide(label="ln 10", value=2.302585), 20) == "ln 10 2.303"


def test_nothing_but_text_needs_no_picture() -> None:
    assert svg(golden.table()) is None
    assert svg(Samples(title="t", samples=(Sample(caption="c", text="words"),))) is None
