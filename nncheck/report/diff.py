"""What two results differ in: findings that are new, gone, better or worse, and the numbers behind them."""

from __future__ import annotations

from dataclasses import dataclass

from nncheck.report.text import one_line
from nncheck.verdict import CheckResult, Report, Status, TargetResult

# In this order it gets worse; a check that was not run or could not tell is compared with nothing.
_ORDER = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}


@dataclass(frozen=True, kw_only=True)
class Change:
    """The differences as lines for people. `worse`: something is new or worse."""

    lines: tuple[str, ...]
    worse: bool


def compare(before: Report, after: Report) -> Change:
    """Compare target by target, check by check; a single target on each side is compared whatever it is called."""
    lines: list[str] = []
    worse = False
    old = {target.target: target for target in before.targets}
    if len(before.targets) == len(after.targets) == 1:
        old = {after.targets[0].target: before.targets[0]}
    for target in after.targets:
        lines.append(one_line(target.target))
        if target.target not in old:
            lines.append("  not in the earlier result")
            found, bad = _against(None, target)
        else:
            found, bad = _against(old.pop(target.target), target)
        lines += found or ["  no difference"]
        worse |= bad
    lines += [f"{one_line(name)}\n  not in the later result" for name in old]
    return Change(lines=tuple(lines), worse=worse)


def _against(before: TargetResult | None, after: TargetResult) -> tuple[list[str], bool]:
    lines: list[str] = []
    worse = False
    old = {result.id: result for result in before.checks} if before is not None else {}
    if after.problem is not None and (before is None or before.problem is None):
        lines.append(f"  new    could not run: {one_line(after.problem.partition(chr(10))[0])}")
        worse = True
    for result in after.checks:
        earlier = old.pop(result.id, None)
        word = _word(earlier, result)
        if word is None:
            continue
        worse |= word in ("new", "worse")
        lines.append(f"  {word:6} {result.id}: {_said(earlier, result)}")
        lines += [f"         {change}" for change in _numbers(earlier, result)]
    lines += [f"  {'left':6} {id}: not in the later result" for id in old]
    return lines, worse


def _word(before: CheckResult | None, after: CheckResult) -> str | None:
    was = None if before is None else _ORDER.get(before.status)
    now = _ORDER.get(after.status)
    if after.status is Status.ERROR:
        return None if before is not None and before.status is Status.ERROR else "worse"
    if now is None:
        return "unrun" if was is not None else None
    if was is None:
        return "new" if now else None
    if was == now:
        return None
    if now > was:
        return "worse" if was else "new"
    return "better" if now else "gone"


def _said(before: CheckResult | None, after: CheckResult) -> str:
    was = "not asked" if before is None else str(before.status)
    return f"{was} -> {after.status}; {one_line(after.summary)}"


def _numbers(before: CheckResult | None, after: CheckResult) -> list[str]:
    old = {} if before is None else before.verdict.numbers
    return [
        f"{one_line(name)}: {old[name]:.4g} -> {value:.4g}"
        for name, value in after.verdict.numbers.items()
        if name in old and old[name] != value
    ]
