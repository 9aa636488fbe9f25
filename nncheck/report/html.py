"""The result as one HTML page, and as a fragment for notebooks.

The page asks for nothing, runs no foreign script, and is whole without scripts and without its own style sheet: a CI server's
content security policy may take away both. Escaping is jinja's autoescape; `finalize` writes out control characters.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nncheck.report import figures
from nncheck.report.accepted import accepted, level_set, shown_status
from nncheck.report.describe import describe_sample
from nncheck.report.drawing import omitted
from nncheck.report.drawing.samples import MAX_SAMPLES
from nncheck.report.json import to_dict
from nncheck.report.markdown import finding_markdown
from nncheck.report.prose import inline, prose
from nncheck.report.text import (
    ICONS,
    WORDS,
    all_checks,
    by_phase,
    clean,
    count,
    counts,
    duration,
    findings,
    headline,
    moment,
    number,
    one_line,
    rerun_command,
    said,
    standing,
    ticked_by_hand,
    trial,
    untold,
    where,
)
from nncheck.verdict import CheckResult, Exhibit, Report, Samples, Stage, Status, Table, TargetResult

# In a wheel the templates lie in the package, in a checkout beside it.
_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = (_PACKAGE / "templates", _PACKAGE.parent / "templates")

MAX_ROWS = 200  # Rows of a table in the page; the result file has them all.
MAX_SHOWN_PLACES = 20


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An exhibit ready for the page: at most one of `svg`, `table` and `samples` is filled."""

    title: str
    note: str = ""
    svg: Markup | None = None
    table: Table | None = None
    samples: tuple[SamplePicture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SamplePicture:
    caption: str
    text: str
    alt: str
    source: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, kw_only=True)
class Card:
    """One check ready for the page."""

    anchor: str
    result: CheckResult
    pictures: tuple[Picture, ...]
    rerun: str
    markdown: str = ""

    @property
    def finding(self) -> bool:
        return self.result.is_finding or self.result.status is Status.ERROR


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """One target ready for the page: what was found, then every check by stage."""

    anchor: str
    target: TargetResult
    found: tuple[Card, ...]
    stages: tuple[tuple[Stage, tuple[Card, ...]], ...]


def to_html(report: Report) -> str:
    """The whole page."""
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _render("report.html.j2", report, anchors=True, style=style, script=script, policy=policy)


def to_fragment(report: Report) -> str:
    """The same for a notebook's cell: the style sheet reaches no further than the fragment; no script, no ids of its own."""
    return _render("fragment.html.j2", report, anchors=False, style=_asset("style.css"))


def _render(template: str, report: Report, *, anchors: bool, **more: Any) -> str:
    views = _views(report, anchors)
    checks = all_checks(report)
    first = next(((view.target.target, card) for view in views for card in view.found), None)
    return _environment().get_template(template).render(
        report=report,
        views=views,
        headline=headline(report),
        first=first[1] if first else None,
        first_target=first[0] if first else "",
        counts=counts(checks),
        accepted=[(target, entry) for target in report.targets for entry in accepted(target)],
        data=_without_pixels(to_dict(report)),
        **more,
    )  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDERS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "by_phase": by_phase,
        "ticked_by_hand": ticked_by_hand,
        "count": count,
        "duration": duration,
        "icon": ICONS.__getitem__,
        "inline": inline,
        "level_set": level_set,
        "moment": moment,
        "number": number,
        "prose": prose,
        "said": said,
        "shown_status": shown_status,
        "standing": standing,
        "trial": trial,
        "where": where,
        "word": WORDS.__getitem__,
    }
    environment.globals |= {"MAX_PLACES": MAX_SHOWN_PLACES, "MAX_ROWS": MAX_ROWS, "rerun_command": rerun_command}
    return environment


def _finalize(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    source, _, _ = jinja2.FileSystemLoader(_FOLDERS).get_source(_environment(), name)
    return Markup(source)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _views(report: Report, anchors: bool) -> tuple[TargetView, ...]:
    """Everything with its pictures. matplotlib is imported only if there is one to draw."""
    drawn = any(not isinstance(exhibit, Table) for result in all_checks(report) for exhibit in result.verdict.exhibits)
    # Of two fragments in one notebook each needs ids of its own within its drawings.
    salt = "" if anchors else hashlib.sha256(repr(report).encode("utf-8", "replace")).hexdigest()[:8] + "-"
    with figures.drawing() if drawn else nullcontext():
        return tuple(_view(report, n, salt) for n in range(len(report.targets)))


def _view(report: Report, n: int, salt: str) -> TargetView:
    target = report.targets[n]
    prefix = f"target-{n + 1}--" if len(report.targets) > 1 else ""
    cards: dict[int, Card] = {}
    for result in target.checks:
        anchor = prefix + re.sub(r"[^A-Za-z0-9_.-]+", "_", result.id)
        card = Card(
            anchor=anchor,
            result=result,
            pictures=tuple(_pictures(result, f"{salt}{anchor}")),
            rerun=rerun_command(report, target, result.id),
            markdown="" if shown_status(result) in _QUIET else finding_markdown(report, target, result),
        )
        cards[id(result)] = card
    stages = tuple(
        (stage, tuple(cards[id(result)] for result in target.checks if result.stage is stage))
        for stage in Stage
        if any(result.stage is stage for result in target.checks)
    )
    found = tuple(cards[id(result)] for result in [*findings(target), *untold(target)])
    return TargetView(anchor=f"target-{n + 1}", target=target, found=found, stages=stages)


_QUIET = (Status.PASS, Status.SKIP)


def _pictures(result: CheckResult, key: str) -> Iterator[Picture]:
    for k, exhibit in enumerate(result.verdict.exhibits):
        try:
            picture = _picture(exhibit, f"{key}-{k}")
        except Exception as error:  # noqa: BLE001  # one picture that cannot be drawn never costs the report
            picture = Picture(
                title=one_line(exhibit.title), note=f"Could not be drawn: {type(error).__name__}: {error}"
            )
        if picture is not None:
            yield picture


def _picture(exhibit: Exhibit, key: str) -> Picture | None:
    title, note = one_line(exhibit.title), omitted(exhibit)
    if isinstance(exhibit, Table):
        hidden = len(exhibit.rows) - MAX_ROWS
        return Picture(title=title, table=exhibit, note=f"{hidden} more rows in the result file." if hidden > 0 else "")
    if isinstance(exhibit, Samples):
        return Picture(title=title, note=note, samples=tuple(_sample_pictures(exhibit)))
    svg = figures.to_svg(exhibit, key)
    return None if svg is None else Picture(title=title, note=note, svg=Markup(svg))


def _sample_pictures(exhibit: Samples) -> Iterator[SamplePicture]:
    for sample in exhibit.samples[:MAX_SAMPLES]:
        source, width, height = figures.sample_png(sample) or ("", 0, 0)
        yield SamplePicture(
            caption=sample.caption,
            text=sample.text,
            alt=describe_sample(sample),
            source=source,
            width=width,
            height=height,
        )


def _without_pixels(data: dict[str, Any]) -> dict[str, Any]:
    """The result for the page's own copy: the samples' bytes are on the page already, as pictures."""
    for target in data["targets"]:
        for check in target["checks"]:
            for exhibit in check["exhibits"]:
                for sample in exhibit.get("samples", ()):
                    sample.pop("pixels", None)
    return data
