"""The result as GitHub-flavoured Markdown: for a job's summary, a pull request or a chat. No pictures."""

from __future__ import annotations

import re

from nncheck.report.accepted import accepted, level_set
from nncheck.report.describe import describe
from nncheck.report.text import (
    ICONS,
    WORDS,
    all_checks,
    by_phase,
    clean,
    count,
    duration,
    findings,
    first_sentence,
    headline,
    moment,
    one_line,
    rerun_command,
    said,
    shorten,
    standing,
    tally,
    ticked_by_hand,
    trial,
    untold,
    where,
)
from nncheck.verdict import CheckResult, Report, Status, TargetResult

MAX_PLACES = 5
MAX_TEXT = 1000

# What begins markup within a line; what does so at its start only (`-`, `+`, `>`) never stands there.
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")


def _escaped(text: str) -> str:
    safe = _SPECIAL.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
    return safe.replace("@", "&#64;").replace("://", ":&#47;/").replace("www.", "www&#46;")


def escaped(text: str) -> str:
    """Text on one line that stays text: no markup, no HTML, no mention of a person, no link."""
    return _escaped(shorten(one_line(text), MAX_TEXT))


def phrase(text: str) -> str:
    """Text that may hold `code` in backticks; everything else is escaped."""
    parts = re.split(r"`([^`\n]+)`", shorten(one_line(text), MAX_TEXT))
    return "".join(code(part) if k % 2 else _escaped(part) for k, part in enumerate(parts))


def code(text: str) -> str:
    """A code span, its fence longer than any in the text. A bar would end the cell of a table even here."""
    text = one_line(text).replace("|", "¦") or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def block(text: str, language: str = "") -> list[str]:
    text = clean(text).strip("\n")
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return [f"{fence}{language}", *text.split("\n"), fence]


def to_markdown(report: Report) -> str:
    """The whole result."""
    lines = [f"## nncheck: {escaped(headline(report))}", ""]
    for target in report.targets:
        lines += _target(report, target)
    lines += _accepted(report)
    lines += [f"> {escaped(notice)}  " for notice in report.notices] + ([""] if report.notices else [])
    checks = all_checks(report)
    if report.baseline is not None:
        lines += [f"Against the baseline {code(report.baseline.file)}: {standing(report)}", ""]
        lines += [f"- resolved: {escaped(line)}" for line in report.baseline.resolved]
        lines += [""] if report.baseline.resolved else []
    if checks:
        lines += [f"{tally(checks)} in {duration(report.seconds)}, exit status {report.exit_code}", ""]
    about = ", ".join(
        f"{escaped(name)} {escaped(value)}" for name, value in report.environment.items() if name != "command"
    )
    lines += [f"<sub>nncheck {escaped(report.nncheck_version)}{', ' + about if about else ''}</sub>"]
    return "\n".join(lines).rstrip() + "\n"


def _target(report: Report, target: TargetResult) -> list[str]:
    about = [target.model, target.loss, target.optimizer]
    parts = [code(target.target), *(escaped(part) for part in about if part)]
    if target.parameters:
        parts.insert(2, count(target.parameters, "parameter"))
    if target.cached:
        parts.append(f"unchanged since {escaped(moment(target.cached))}, not run again")
    lines = [" · ".join(parts), ""]
    if target.problem is not None:
        lines += ["Could not be checked:", "", *block(target.problem), ""]
    for result in [*findings(target), *untold(target)]:
        lines += [finding_markdown(report, target, result), ""]
    if target.checks:
        lines += ["<details><summary>Every check</summary>", "", "| | check | measured |", "|---|---|---|"]
        for result in target.checks:
            status = "accepted" if result.accepted else f"{ICONS[result.status]} {WORDS[result.status]}"
            lines.append(f"| {status} | {code(result.id)} | {phrase(said(result))} |")
        lines += ["", "</details>", ""]
    if target.checklist:
        lines += [f"<details><summary>The recipe's checklist: {ticked_by_hand(target.checklist)} by hand</summary>", ""]
        for phase, items in by_phase(target.checklist):
            lines += [f"**{escaped(phase)}**", ""]
            for item in items:
                note = f" ({escaped(item.note)})" if item.note else ""
                lines.append(f"- [{'x' if item.done else ' '}] {escaped(item.text)}{note}")
            lines.append("")
        lines += ["</details>", ""]
    return lines


def _accepted(report: Report) -> list[str]:
    """What is accepted, and why."""
    lines: list[str] = []
    for target in report.targets:
        of_target = f" in {code(target.target)}" if len(report.targets) > 1 else ""
        for entry in accepted(target):
            at = f" at {code(entry.place)}" if entry.place else ""
            found = "" if entry.place else f" ({phrase(said(entry.result))})"
            lines.append(f"- {code(entry.result.id)}{at}{of_target}: {escaped(entry.reason)}{found}")
    return ["### Accepted", "", *lines, ""] if lines else []


def finding_markdown(report: Report, target: TargetResult, result: CheckResult) -> str:
    """One finding, ready to paste into an issue."""
    verdict, doc = result.verdict, result.doc
    status = f"{ICONS[result.status]} {WORDS[result.status]}"
    status += " (known)" if result.known else ""
    lines = [f"### {status}: {code(result.id)} {phrase(said(result))}", ""]
    if verdict.measured and verdict.measured != result.summary:
        lines.append(f"- **Measured:** {phrase(verdict.measured)}")
    if verdict.expected:
        lines.append(f"- **Expected:** {phrase(verdict.expected)}")
    if verdict.near:
        lines.append(f"- **Near:** {phrase(verdict.near)}")
    if result.declared is not None:
        lines.append(f"- **Level:** {level_set(result)}")
    for place in verdict.places[:MAX_PLACES]:
        spot = [code(text) for text in (where(place), place.name) if text]
        detail = f": {phrase(place.detail)}" if place.detail else ""
        lines.append(f"- **Where:** {' '.join(spot)}{detail}")
    if len(verdict.places) > MAX_PLACES:
        lines.append(f"- and {count(len(verdict.places) - MAX_PLACES, 'more place')}")
    lines += [f"- **Cause:** {phrase(cause)}" for cause in verdict.causes]
    if doc.why and result.status is not Status.ERROR:
        lines.append(f"- **Why it matters:** {phrase(first_sentence(doc.why))}")
    for remedy in verdict.remedies:
        tried = trial(remedy)
        lines.append(f"- **What to do:** {phrase(remedy.text)}{f' ({escaped(tried)})' if tried else ''}")
        if remedy.code:
            lines += ["", *block(remedy.code, "python"), ""]
    if not verdict.remedies and doc.fix and result.status is not Status.ERROR:
        lines.append(f"- **What to do:** {phrase(first_sentence(doc.fix).rstrip(':'))}")
    lines += [f"- **Seen:** {phrase(describe(exhibit))}" for exhibit in verdict.exhibits]
    lines.append(f"- **Run again:** {code(rerun_command(report, target, result.id))}")
    return "\n".join(lines)
