"""The findings as GitLab's code quality report: a JSON array, one entry a finding, placed at the user's line.

GitLab itself tells what is new and what is resolved, by the fingerprints; so known findings stay in, accepted ones do not.
"""

from __future__ import annotations

import json

from nncheck.report.identity import fingerprint
from nncheck.report.paths import from_root, target_file
from nncheck.report.text import findings, one_line, untold
from nncheck.verdict import Report, Status

# Of info, minor, major, critical and blocker: a check that could not tell says nothing against the code.
_SEVERITIES = {Status.FAIL: "critical", Status.WARN: "major", Status.ERROR: "info"}


def to_gitlab(report: Report) -> str:
    """The whole document; a place outside the repository is told at the target's own file."""
    entries = []
    for target in report.targets:
        for result in [*findings(target), *untold(target)]:
            place = next((p for p in result.verdict.places if p.file and from_root(report, p.file)), None)
            file = from_root(report, place.file) if place is not None and place.file else target_file(report, target)
            entries.append(
                {
                    "description": one_line(f"{result.id}: {result.summary}"),
                    "check_name": result.id,
                    "fingerprint": fingerprint(target, result),
                    "severity": _SEVERITIES[result.status],
                    "location": {
                        "path": file or one_line(target.target),
                        "lines": {"begin": 1 if place is None else place.line or 1},
                    },
                }
            )
        if target.problem is not None:
            first = one_line(target.problem.partition("\n")[0])
            entries.append(
                {
                    "description": f"could not be checked: {first}",
                    "check_name": "target",
                    "fingerprint": fingerprint(target, None),
                    "severity": "blocker",
                    "location": {"path": target_file(report, target) or one_line(target.target), "lines": {"begin": 1}},
                }
            )
    return json.dumps(entries, indent=1) + "\n"
