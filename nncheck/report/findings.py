"""The findings as lines of text in the manner of rustc: what, where, measured, expected, why, what to do.

A line is a tuple of (style, text) pieces; who prints it decides whether the styles become colours. Every text in here is
clean and on one line already, and none of them can begin a line: each line starts with words of nncheck's own.
"""

from __future__ import annotations

from nncheck.report.accepted import accepted, level_set, shown_status
from nncheck.report.text import (
    ICONS,
    clean,
    count,
    findings,
    first_sentence,
    one_line,
    rerun_command,
    said,
    shorten,
    trial,
    untold,
    where,
)
from nncheck.verdict import CheckResult, Place, Remedy, Report, Status, TargetResult

Piece = tuple[str, str]
TextLine = tuple[Piece, ...]

# "error" is kept for what nncheck could not tell, as in the result file.
LABELS = {Status.FAIL: "fail", Status.WARN: "warn", Status.ERROR: "could not tell"}
CHECK_LABELS = {Status.PASS: "", Status.SKIP: "not run: "} | {status: f"{label}: " for status, label in LABELS.items()}

MAX_PLACES = 3
MAX_PLACES_VERBOSE = 20
MAX_TEXT = 1000  # A message longer than this is a dump; the whole of it is in the result file.


def _said(text: str) -> str:
    return shorten(one_line(text), MAX_TEXT)


def _note(word: str, text: str, style: str = "") -> TextLine:
    return (("dim", "   = "), ("bold", f"{word}: "), (style, _said(text)))


def _block(text: str, prefix: str = "   |  ") -> list[TextLine]:
    lines = clean(text).strip("\n").split("\n")
    return [(("dim", prefix), ("", shorten(line.expandtabs(4), MAX_TEXT))) for line in lines]


def _place_lines(places: tuple[Place, ...], verbose: bool) -> list[TextLine]:
    lines: list[TextLine] = []
    limit = MAX_PLACES_VERBOSE if verbose else MAX_PLACES
    for place in places[:limit]:
        spot = where(place)
        about = ": ".join(part for part in (one_line(place.name), _said(place.detail)) if part)
        pieces: list[Piece] = [("dim", "  --> ")]
        if spot:
            pieces.append(("blue", spot))
        if about:
            pieces.append(("", f"  {about}" if spot else about))
        lines.append(tuple(pieces))
        if place.source:
            lines += _block(place.source.strip())
    if len(places) > limit:
        lines.append((("dim", f"  --> and {count(len(places) - limit, 'more place')}"),))
    return lines


def _remedy_lines(remedy: Remedy) -> list[TextLine]:
    tried = trial(remedy)
    lines = [_note("help", remedy.text + (f" ({tried})" if tried else ""))]
    if remedy.code:
        lines += _block(remedy.code, "   |    ")
    return lines


def finding_lines(
    report: Report, target: TargetResult, result: CheckResult, *, verbose: bool = False
) -> list[TextLine]:
    """One finding, or one check that could not tell."""
    verdict, doc = result.verdict, result.doc
    label = f"{LABELS[result.status]}[{one_line(result.id)}]" + (" (known)" if result.known else "")
    lines: list[TextLine] = [((f"bold {result.status}", label), ("bold", f": {_said(said(result))}"))]
    lines += _place_lines(verdict.places, verbose)
    if verdict.measured and verdict.measured != result.summary:
        lines.append(_note("measured", verdict.measured))
    if verdict.expected:
        lines.append(_note("expected", verdict.expected))
    if verdict.near:
        lines.append(_note("near", verdict.near))
    if result.declared is not None:
        lines.append(_note("level", level_set(result)))
    lines += [_note("cause", cause) for cause in verdict.causes[: None if verbose else 1]]
    if doc.why and result.status is not Status.ERROR:
        lines.append(_note("why", doc.why if verbose else first_sentence(doc.why)))
    for remedy in verdict.remedies:
        lines += _remedy_lines(remedy)
    if doc.fix and result.status is not Status.ERROR and (verbose or not verdict.remedies):
        lines.append(_note("help", doc.fix if verbose else first_sentence(doc.fix).rstrip(":")))
    if verbose and doc.limits:
        lines.append(_note("limits", doc.limits))
    if verbose and doc.source:
        lines.append(_note("source", doc.source))
    id = one_line(result.id)
    lines.append(_note("more", f"nncheck explain {id} · rerun: {rerun_command(report, target, id)}", "dim"))
    return lines


def problem_lines(target: TargetResult) -> list[TextLine]:
    """Why a target could not be checked; the text comes with its own line breaks."""
    first, _, rest = clean(target.problem or "").strip().partition("\n")
    lines: list[TextLine] = [(("bold error", "could not run"), ("bold", f": {first}"))]
    return lines + (_block(rest, "  ") if rest.strip() else [])


def target_lines(report: Report, target: TargetResult, *, verbose: bool = False) -> list[TextLine]:
    """All findings of a target, an empty line after each."""
    lines: list[TextLine] = []
    if target.problem is not None:
        lines += [*problem_lines(target), ()]
    for result in [*findings(target), *untold(target)]:
        lines += [*finding_lines(report, target, result, verbose=verbose), ()]
    return lines


def accepted_lines(report: Report) -> list[TextLine]:
    """What is accepted, and why: two lines each, under the target's name where there are several."""
    lines: list[TextLine] = []
    for target in report.targets:
        of_target = f" in {one_line(target.target)}" if len(report.targets) > 1 else ""
        for entry in accepted(target):
            at = f" at {entry.place}" if entry.place else ""
            label = f"accepted[{one_line(entry.result.id)}]{at}{of_target}"
            lines.append((("dim", label), ("", f": {_said(entry.reason)}")))
            if not entry.place:
                lines.append(_note("found", said(entry.result), "dim"))
    return [*lines, ()] if lines else []


def resolved_lines(report: Report) -> list[TextLine]:
    """What the baseline holds that is found no more."""
    resolved = () if report.baseline is None else report.baseline.resolved
    return [(("green", "resolved"), ("", f": {_said(line)}")) for line in resolved]


def notice_lines(report: Report) -> list[TextLine]:
    """What is to be said of the configuration."""
    return [(("yellow", "notice"), ("", f": {_said(notice)}")) for notice in report.notices]


def report_lines(report: Report, *, verbose: bool = False) -> list[TextLine]:
    """The findings of every target, under its name where there are several."""
    lines: list[TextLine] = []
    for target in report.targets:
        body = target_lines(report, target, verbose=verbose)
        if body and len(report.targets) > 1:
            lines += [(("bold", f"In {one_line(target.target)}"),), ()]
        lines += body
    return lines


def check_line(result: CheckResult, seconds: str, width: int | None) -> TextLine:
    """`  ✓ loss-at-init         2.31, expected ln 10 = 2.30      0.4 s`; cut to `width` columns if that is given."""
    # The longest id today has 21 letters; a column that fits them all keeps the figures in line.
    name = f"{one_line(result.id):<22}"
    text = f"accepted: {one_line(result.accepted)}" if result.accepted else CHECK_LABELS[result.status] + said(result)
    status = shown_status(result)
    if width is not None:
        room = max(width - len(name) - len(seconds) - 7, 20)
        text = f"{shorten(text, room):<{room}}"
    style = "dim" if status is Status.SKIP else ""
    mark = (str(status), f"  {ICONS[status]} ")
    return (mark, (style, f"{name} {text}"), ("dim", f"  {seconds}"))


def detail_lines(result: CheckResult) -> list[TextLine]:
    """What `-v` adds under a check that found nothing."""
    verdict = result.verdict
    lines = []
    if verdict.measured and verdict.measured != result.summary:
        lines.append(_note("measured", verdict.measured))
    if verdict.expected:
        lines.append(_note("expected", verdict.expected))
    if verdict.near:
        lines.append(_note("near", verdict.near))
    lines += [_note("cause", cause) for cause in verdict.causes]
    if result.doc.title:
        lines.append(_note("fault", result.doc.title, "dim"))
    return [((("dim", "  "), *line)) for line in lines]
