"""The findings as GitLab's code quality report: a JSON array, one entry a finding, placed at the user's line."""

from __future__ import annotations

import hashlib
import json

from nncheck.report.text import findings, one_line
from nncheck.verdict import Report, Status

_SEVERITIES = {Status.FAIL: "critical", Status.WARN: "major"}


def to_gitlab(report: Report) -> str:
    """The whole document."""
    entries = []
    for target in report.targets:
        for result in findings(target):
            place = next((p for p in result.verdict.places if p.file), None)
            identity = f"{target.target}\0{result.id}"
            entries.append(
                {
                    "description": one_line(result.summary),
                    "check_name": result.id,
                    "fingerprint": hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest(),
                    "severity": _SEVERITIES[result.status],
                    "location": {
                        "path": target.target if place is None else place.file,
                        "lines": {"begin": 1 if place is None else place.line or 1},
                    },
                }
            )
    return json.dumps(entries, indent=1) + "\n"
