"""A finding's places as SARIF's locations: relative to the repository's root, each line once."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import quote

from nncheck.report.paths import from_root, target_file
from nncheck.report.text import clean, one_line
from nncheck.verdict import CheckResult, Place, Report, TargetResult

# Further places of one finding: a person looks at a few.
MAX_RELATED = 10


def locations(report: Report, target: TargetResult, result: CheckResult) -> dict[str, Any]:
    """`locations` with the first place, and `relatedLocations` with the further lines, if there are any.

    A place outside the repository is left out: its path says nothing elsewhere. Without any other the target's own file is
    named.
    """
    spots: dict[tuple[str, int], Place] = {}
    for place in result.verdict.places:
        file = None if place.file is None else from_root(report, place.file)
        if file is not None:
            spots.setdefault((file, place.line or 1), dataclasses.replace(place, file=file))
    first, *further = spots.values() or [_own(report, target)]
    found: dict[str, Any] = {"locations": [_location(first)]}
    if further:
        found["relatedLocations"] = [
            {"id": number, "message": {"text": one_line(place.name) or result.id}, **_location(place)}
            for number, place in enumerate(further[:MAX_RELATED], start=1)
        ]
    return found


def _own(report: Report, target: TargetResult) -> Place:
    """The target's own file, else any file that it has been found in; a model built in a notebook may have neither."""
    file = target_file(report, target)
    others = (place.file for result in target.checks for place in result.verdict.places if place.file)
    file = file or next((known for known in (from_root(report, other) for other in others) if known), None)
    return Place(name=target.model, file=file or one_line(target.target) or "target", line=1)


def _location(place: Place) -> dict[str, Any]:
    line = place.line or 1
    region: dict[str, Any] = {
        "startLine": line,
        "startColumn": place.column or 1,
        "endLine": place.end_line or line,
        "endColumn": place.end_column or max(2, len(place.source or "") + 1),
    }
    physical: dict[str, Any] = {
        "artifactLocation": {"uri": _uri(place.file or ""), "uriBaseId": "%SRCROOT%"},
        "region": region,
    }
    if place.source and region["endLine"] == line:  # else it would be less than the region
        physical["contextRegion"] = {"startLine": line, "endLine": line, "snippet": {"text": clean(place.source)}}
    location: dict[str, Any] = {"physicalLocation": physical}
    if place.name:
        location["logicalLocations"] = [{"fullyQualifiedName": one_line(place.name)}]
    return location


def _uri(path: str) -> str:
    """A relative reference: every byte but letters, digits, `-._~` and slashes written out, so that no `:` makes it a scheme."""
    return quote(path, safe="/~", errors="surrogateescape")
