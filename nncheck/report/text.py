"""Words, order and escaping that the renderers share. Standard library only.

Whatever comes from the user's side (names of layers, classes and files, exception texts, lines of code) is hostile here:
it may hold escape sequences, markup of any kind or commands to a CI system.
"""

from __future__ import annotations

import datetime
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from nncheck.verdict import ChecklistItem, CheckResult, Place, Remedy, Report, Status, TargetResult

ICONS = {Status.PASS: "✓", Status.WARN: "!", Status.FAIL: "✗", Status.SKIP: "–", Status.ERROR: "?"}
ASCII_ICONS = {Status.PASS: "+", Status.WARN: "!", Status.FAIL: "x", Status.SKIP: "-", Status.ERROR: "?"}
WORDS = {
    Status.PASS: "passed",
    Status.WARN: "warning",
    Status.FAIL: "failed",
    Status.SKIP: "not run",
    Status.ERROR: "could not tell",
}

# C0 without tab and newline, DEL, C1, and what is invisible or turns the reading direction: bidirectional controls, zero
# width characters, line separators, tag characters; lone surrogates, which no encoder takes.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clean(text: str) -> str:
    """The text with every control, invisible or unencodable character written out; newlines and tabs stay."""
    return _UNSAFE.sub(_visible, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The text on one line: clean, runs of white space become one space."""
    return " ".join(clean(text).split())


def shorten(text: str, width: int) -> str:
    """Cut at the end, with an ellipsis."""
    return text if len(text) <= width else text[: max(width - 1, 0)].rstrip() + "…"


def shorten_middle(text: str, width: int) -> str:
    """Cut in the middle: of a layer's dotted name, both ends tell the most."""
    if len(text) <= width:
        return text
    head = (width - 1) // 3
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


def shorten_name(name: str, width: int) -> str:
    """`encoder.blocks.3.attention.projection.weight` as `enc.blo.3.att.projection.weight`: the numbers tell layers apart."""
    parts = name.split(".")
    for k, part in enumerate(parts[:-1]):
        if len(".".join(parts)) <= width:
            break
        parts[k] = part if part.isdigit() else part[:3]
    return shorten_middle(".".join(parts), width)


def first_sentence(text: str) -> str:
    """The first sentence of a paragraph, on one line."""
    paragraph = one_line(text.strip().split("\n\n", 1)[0])
    match = re.match(r"(.+?[.!?])(?= [A-Z`(])", paragraph)
    return match.group(1) if match else paragraph


def number(value: float) -> str:
    """A figure for people: four significant digits."""
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    if seconds < 0.095:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def moment(created: str) -> str:
    """`2026-11-21 12:00 UTC` of an ISO time; anything else as it is."""
    try:
        when = datetime.datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".rstrip()


def count(n: int, noun: str, plural: str = "") -> str:
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def findings(target: TargetResult) -> list[CheckResult]:
    """The findings as a person should read them; one left out of `target.findings` comes last."""
    bad = {result.id: result for result in target.checks if result.is_finding}
    ordered = [bad.pop(id) for id in target.findings if id in bad]
    return ordered + list(bad.values())


def untold(target: TargetResult) -> list[CheckResult]:
    """The checks that could not tell."""
    return [result for result in target.checks if result.status is Status.ERROR]


def counts(results: Iterable[CheckResult]) -> dict[Status, int]:
    """How many of each status, worst first, what is accepted apart; statuses that do not occur are left out."""
    order = (Status.FAIL, Status.WARN, Status.ERROR, Status.PASS, Status.SKIP)
    statuses = [result.status for result in results if not result.accepted]
    return {status: statuses.count(status) for status in order if status in statuses}


def tally(results: Iterable[CheckResult]) -> str:
    """`2 failed, 1 warning, 12 passed, 2 not run, 1 accepted`."""
    results = list(results)
    parts = []
    for status, n in counts(results).items():
        parts.append(count(n, "warning") if status is Status.WARN else f"{n} {WORDS[status]}")
    if accepted := sum(bool(result.accepted) for result in results):
        parts.append(f"{accepted} accepted")
    return ", ".join(parts) or "no check ran"


def standing(report: Report) -> str:
    """`1 new, 2 known, 1 resolved`, against the baseline; empty where there is none."""
    if report.baseline is None:
        return ""
    found = [result for result in all_checks(report) if result.is_finding]
    known = sum(result.known for result in found)
    return f"{len(found) - known} new, {known} known, {len(report.baseline.resolved)} resolved"


def all_checks(report: Report) -> list[CheckResult]:
    return [result for target in report.targets for result in target.checks]


def headline(report: Report) -> str:
    """The answer in one sentence."""
    checks = all_checks(report)
    by_status = counts(checks)
    failed, warnings = by_status.get(Status.FAIL, 0), by_status.get(Status.WARN, 0)
    accepted = sum(bool(result.accepted) for result in checks)
    broken = [target for target in report.targets if target.problem is not None]
    start = "Interrupted. So far: " if report.interrupted else ""
    if failed:
        also = f", and {count(warnings, 'warning')}" if warnings else ""
        text = f"{count(failed, 'problem')} found{also}"
    elif broken:
        text = f"Could not check {one_line(broken[0].target)}" + (f" and {len(broken) - 1} more" if broken[1:] else "")
    elif by_status.get(Status.ERROR):
        text = f"{count(by_status[Status.ERROR], 'check')} could not tell"
        text += f", and {count(warnings, 'warning')}" if warnings else ""
    elif warnings:
        text = f"No mistake found, {count(warnings, 'warning')}"
    elif by_status.get(Status.PASS):
        text = f"No problem found by {count(by_status[Status.PASS], 'check')}"
        text += f", {count(accepted, 'finding')} accepted" if accepted else ""
    elif accepted:
        text = f"Nothing found but {count(accepted, 'finding')} that {'is' if accepted == 1 else 'are'} accepted"
    else:
        text = "No check ran"
    return start + text


def by_phase(items: Iterable[ChecklistItem]) -> list[tuple[str, list[ChecklistItem]]]:
    """The checklist's items phase by phase, in the order in which the phases come first."""
    phases: dict[str, list[ChecklistItem]] = {}
    for item in items:
        phases.setdefault(item.phase, []).append(item)
    return list(phases.items())


def ticked_by_hand(items: Iterable[ChecklistItem]) -> str:
    """`2 of 16 items are ticked`, of those that no check ticks."""
    by_hand = [item for item in items if not item.checks]
    return f"{sum(bool(item.done) for item in by_hand)} of {count(len(by_hand), 'item')} are ticked"


def said(result: CheckResult) -> str:
    """The one line said of a check, for a place that already says "could not tell"."""
    text = one_line(result.summary)
    return text.removeprefix("could not tell: ") if result.status is Status.ERROR else text


def rerun_command(report: Report, target: TargetResult, id: str | None = None) -> str:
    """What to type to ask again, for one check or all; a script keeps its own arguments after `--`."""
    if report.environment.get("command", "").startswith("nncheck.check("):
        return "nncheck.check(...)" if id is None else f'nncheck.check(..., select=["{one_line(id)}"])'
    # A script with several optimizers has a result for each: `gan.py [Adam of netD]`.
    whole = re.sub(r" \[[^][]+ of [^][]+\]$", "", one_line(target.target))
    name, dashes, arguments = whole.partition(" -- ")
    command = f"nncheck run {shlex.quote(name)}"
    if id is not None:
        command += f" --select {shlex.quote(one_line(id))}"
    return command + (f" -- {arguments}" if dashes else "")


def where(place: Place) -> str:
    """`model.py:41` if a file is known, the path as seen from the working directory."""
    if place.file is None:
        return ""
    path = clean(place.file)
    if os.path.isabs(path):
        try:
            path = str(Path(path).relative_to(Path.cwd()))
        except (ValueError, OSError):  # another folder or drive, or the working directory is gone
            path = clean(place.file)
    path = " ".join(path.split("\n"))
    return path if place.line is None else f"{path}:{place.line}"


def trial(remedy: Remedy) -> str:
    """What came of trying a remedy; empty if it was not tried."""
    if not remedy.tried:
        return ""
    outcome = {True: "it worked", False: "it did not help", None: "no clear answer"}[remedy.worked]
    figures = f": {one_line(remedy.measured)}" if remedy.measured else ""
    return f"tried on a copy, {outcome}{figures}"
