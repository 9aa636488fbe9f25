"""What a result says of a person or a machine, taken out: homes, names, secrets, what was printed and what was raised."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from nncheck.report.paths import without_home
from nncheck.verdict import CheckResult, Report, Samples, TargetResult

# What a name of a variable, option or setting that holds a secret is made of.
_SECRET_NAME = r"[\w.-]*(?:secret|token|passw|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w.-]*"
# Prose speaks of tokens too: only what is assigned in quotes, to an option, or to a name in capitals is a value.
_ASSIGNED = (
    re.compile(rf"(?i)(\b{_SECRET_NAME}[\"']?\]?\s*[=:]\s*)([\"'][^\"'\n]+[\"'])"),
    re.compile(rf"(?i)(--{_SECRET_NAME}['\"]?(?:=|,\s*|\s+)['\"]?)([^\s\"',;)\]]+)"),
    re.compile(r"(\b[A-Z_]*(?:SECRET|TOKEN|PASSW|KEY|CREDENTIAL)[A-Z_]*=)([^\s\"',;)\]]+)"),
    re.compile(r"(\bkey\s*=\s*)([\"'][\w-]{16,}[\"'])"),
)
_IN_ADDRESS = re.compile(r"(\w+://[^\s/@:]+:)[^\s/@]+@")
# Names of accounts that are words, or nobody's.
_NOBODY = frozenset(
    {"root", "user", "users", "admin", "runner", "ubuntu", "debian", "jenkins", "gitlab", "build", "docker", "test"}
)

_PRINTED = re.compile(r"\n  it printed last:(?:\n    .*)*")
_RAISED = re.compile(
    r"(\b[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit)(?: in [\w ]+)?)(\([^\n]*|: .*?(?=$|\n  (?:\S+:\d+|note:|help:)))",
    re.DOTALL,
)


def scrubber(values: Iterable[tuple[str, str]], names: Iterable[str]) -> Callable[[str], str]:
    """A function that takes out of a text home folders, `values` (and what to write for each), and names of people and machines."""
    known = sorted(set(values), key=lambda pair: -len(pair[0]))
    persons = [re.escape(n) for n in names if len(n) > 2 and n.lower() not in _NOBODY and n != "localhost"]
    person = re.compile(rf"\b(?:{'|'.join(persons)})\b") if persons else None

    def scrub(text: str) -> str:
        for value, instead in known:
            text = text.replace(value, instead)
        text = _IN_ADDRESS.sub(r"\1***@", without_home(text))
        for pattern in _ASSIGNED:
            text = pattern.sub(r'\1"***"', text)
        return person.sub("***", text) if person else text

    return scrub


def scrubbed(report: Report, scrub: Callable[[str], str], *, data: bool) -> Report:
    """The report without what says who and where. Without `data` it also shows no sample of the user's data, nothing that
    their code printed, and of an exception only its type: its message is made of values."""

    def clean(text: str) -> str:
        return scrub(text if data else _RAISED.sub(r"\1 (its message is left out)", _PRINTED.sub("", text)))

    kept = report if data else _without_samples(report)
    found: Report = _mapped(kept, clean)
    # Source is source: what looks like an exception in it is no message.
    sources = [
        dataclasses.replace(t, set_up=scrub(before.set_up))
        for t, before in zip(found.targets, report.targets, strict=True)
    ]
    return dataclasses.replace(found, targets=tuple(sources))


def _without_samples(report: Report) -> Report:
    def bare(result: CheckResult) -> CheckResult:
        exhibits = tuple(exhibit for exhibit in result.verdict.exhibits if not isinstance(exhibit, Samples))
        return dataclasses.replace(result, verdict=dataclasses.replace(result.verdict, exhibits=exhibits))

    def emptied(target: TargetResult) -> TargetResult:
        return dataclasses.replace(target, checks=tuple(map(bare, target.checks)))

    return dataclasses.replace(report, targets=tuple(map(emptied, report.targets)))


def _mapped(value: Any, clean: Callable[[str], str]) -> Any:
    """The same value with every text in it cleaned; enumerations and documentation stay."""
    if type(value) is str:
        return clean(value)
    if isinstance(value, tuple):
        return tuple(_mapped(item, clean) for item in value)
    if isinstance(value, dict):
        return {key: _mapped(item, clean) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            f.name: _mapped(getattr(value, f.name), clean) for f in dataclasses.fields(value) if f.name not in _OURS
        }
        return dataclasses.replace(value, **changes)
    return value


_OURS = ("doc", "id", "stage", "status", "kind", "fail_on", "created", "nncheck_version", "checklist")
"""Fields that hold our own words."""
