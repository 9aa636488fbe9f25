"""What two results differ in: checks that are new, gone, better or worse, with the figures behind them.

A figure that chance moves has its measured standard error beside it. A difference within two of them is noise, and a verdict
that turned with no more than that, where one of the two said that it lay near its threshold, has not changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from nncheck.report.exhibits import plain_number
from nncheck.report.identity import target_key
from nncheck.report.markdown import code, escaped, phrase
from nncheck.report.text import count, number, one_line
from nncheck.verdict import CheckResult, Report, Status, TargetResult

Word = Literal["new", "worse", "better", "gone", "moved", "noise", "not run", "left"]

# From the worst news to the least.
WORDS: tuple[Word, ...] = ("new", "worse", "better", "gone", "moved", "noise", "not run", "left")

# In this order it gets worse; a check that was not run or could not tell is compared with nothing.
_ORDER = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}

# Two standard errors of the difference: one time in twenty chance alone moves a figure further (normal approximation).
NOISE = 2.0

# Another thread count or library changes the last bits of a figure.
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number before and after; noise: the difference lies within what chance does."""

    name: str
    before: float
    after: float
    noise: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One check of one target, or (check "target") the target itself. before: its status, "" where it was not there."""

    target: str
    check: str
    word: Word
    before: str
    after: str
    said: str
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """All differences, target by target as the later result names them; `targets` has those without any too."""

    targets: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def worse(self) -> bool:
        """Whether something is new or worse."""
        return any(difference.word in ("new", "worse") for difference in self.differences)

    @property
    def counts(self) -> str:
        """`1 new, 2 better`; what does not occur is left out."""
        words = [difference.word for difference in self.differences]
        return ", ".join(f"{words.count(word)} {word}" for word in WORDS if word in words) or "no difference"


def compare(before: Report, after: Report) -> Change:
    """Compare target by target, check by check; a single target on each side is compared whatever it is called."""
    old = {target_key(target): target for target in before.targets}
    if len(before.targets) == len(after.targets) == 1:
        old = {target_key(after.targets[0]): before.targets[0]}
    found: list[Difference] = []
    for target in after.targets:
        found += _of_target(old.pop(target_key(target), None), target)
    for key, target in old.items():
        found.append(_about(target, key, "left", "checked", "", "the target is not in the later result"))
    names = [one_line(target.target) for target in (*after.targets, *old.values())]
    return Change(targets=tuple(names), differences=tuple(found))


def _about(target: TargetResult, key: str, word: Word, before: str, after: str, said: str) -> Difference:
    return Difference(
        target=one_line(target.target or key), check="target", word=word, before=before, after=after, said=said
    )


def _of_target(before: TargetResult | None, after: TargetResult) -> Iterable[Difference]:
    name = one_line(after.target)
    old = {} if before is None else {result.id: result for result in before.checks}
    if after.problem is not None and (before is None or before.problem is None):
        first = one_line(after.problem.partition("\n")[0])
        yield _about(after, name, "new", "" if before is None else "checked", "could not run", first)
    elif before is not None and before.problem is not None and after.problem is None:
        yield _about(after, name, "gone", "could not run", "checked", "the target can be checked now")
    for result in after.checks:
        earlier = old.pop(result.id, None)
        figures = _figures(earlier, result)
        word = _word(earlier, result, figures)
        if word is not None:
            yield Difference(
                target=name, check=result.id, word=word, before=_status(earlier), after=_status(result),
                said=one_line(result.summary), figures=figures,
            )  # fmt: skip
    if after.problem is None:
        for id, result in old.items():
            if result.status is not Status.SKIP:
                yield Difference(
                    target=name, check=id, word="left", before=_status(result), after="", said="not asked any more"
                )


def _status(result: CheckResult | None) -> str:
    if result is None:
        return ""
    return "accepted" if result.accepted else result.status.value


def _word(before: CheckResult | None, after: CheckResult, figures: tuple[Figure, ...]) -> Word | None:
    was, now = _rank(before), _rank(after)
    if after.status is Status.ERROR:
        return None if before is not None and before.status is Status.ERROR else "worse"
    if now is None:
        return "not run" if was is not None else None
    if was is None:
        return "new" if now else None
    if was == now:
        return "moved" if now and any(not figure.noise for figure in figures) else None
    assert before is not None
    if (before.verdict.near or after.verdict.near) and all(figure.noise for figure in figures):
        return "noise"
    if now > was:
        return "worse" if was else "new"
    return "better" if now else "gone"


def _rank(result: CheckResult | None) -> int | None:
    if result is None:
        return None
    return 0 if result.accepted else _ORDER.get(result.status)


def _figures(before: CheckResult | None, after: CheckResult) -> tuple[Figure, ...]:
    """The numbers that both have and that differ."""
    if before is None:
        return ()
    old, new = before.verdict, after.verdict
    return tuple(
        Figure(name=name, before=old.numbers[name], after=value, noise=_is_noise(before, after, name))
        for name, value in new.numbers.items()
        if name in old.numbers and not _same(old.numbers[name], value)
    )


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=ROUNDING)


def _is_noise(before: CheckResult, after: CheckResult, name: str) -> bool:
    spreads = [result.verdict.spread.get(name) for result in (before, after)]
    errors = [spread for spread in spreads if spread is not None and math.isfinite(spread)]
    if not errors:
        return False  # nothing random in it: whatever differs has a reason
    apart = abs(after.verdict.numbers[name] - before.verdict.numbers[name])
    return apart <= NOISE * math.hypot(*(errors if len(errors) == 2 else errors * 2))


def diff_lines(change: Change) -> list[str]:
    """For the terminal."""
    lines: list[str] = []
    width = max((len(difference.word) for difference in change.differences), default=0)
    for target in change.targets:
        lines.append(target)
        of_target = [difference for difference in change.differences if difference.target == target]
        for difference in sorted(of_target, key=lambda d: WORDS.index(d.word)):
            lines.append(f"  {difference.word:{width}}  {difference.check}: {_arrow(difference)}; {difference.said}")
            lines += [f"  {'':{width}}    {_shown(figure)}" for figure in difference.figures]
        if not of_target:
            lines.append("  no difference")
    if len(change.targets) > 1:
        lines.append(change.counts)
    return lines


def _arrow(difference: Difference) -> str:
    return f"{difference.before or 'not asked'} -> {difference.after or 'not asked'}"


def _shown(figure: Figure) -> str:
    noise = " (within the measured spread)" if figure.noise else ""
    return f"{one_line(figure.name)}: {number(figure.before)} -> {number(figure.after)}{noise}"


def diff_markdown(change: Change) -> str:
    """For a pull request: a table for each target that differs."""
    lines = [f"## nncheck: {change.counts}", ""]
    for target in change.targets:
        of_target = [difference for difference in change.differences if difference.target == target]
        if not of_target:
            continue
        lines += [code(target), "", "| | check | before | after | |", "|---|---|---|---|---|"]
        for difference in sorted(of_target, key=lambda d: WORDS.index(d.word)):
            figures = "".join(f"<br>{escaped(_shown(figure))}" for figure in difference.figures)
            cells = (
                difference.word, code(difference.check), difference.before or "not asked",
                difference.after or "not asked", phrase(difference.said) + figures,
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    same = len(change.targets) - len({difference.target for difference in change.differences})
    lines += [f"{count(same, 'target')} without a difference", ""] if same else []
    return "\n".join(lines).rstrip() + "\n"


def diff_json(change: Change) -> str:
    """For programs; `schema_version` 1."""
    data: dict[str, Any] = {
        "schema_version": 1,
        "worse": change.worse,
        "targets": list(change.targets),
        "differences": [
            {
                "target": difference.target,
                "check": difference.check,
                "change": difference.word,
                "before": difference.before or None,
                "after": difference.after or None,
                "summary": difference.said,
                "numbers": {
                    figure.name: {
                        "before": plain_number(figure.before), "after": plain_number(figure.after), "noise": figure.noise
                    }
                    for figure in difference.figures
                },
            }
            for difference in change.differences
        ],
    }  # fmt: skip
    return json.dumps(data, indent=1, allow_nan=False) + "\n"
