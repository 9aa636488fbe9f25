"""Reports that a gate has marked: findings accepted, known and new."""

from __future__ import annotations

import dataclasses

from nncheck.verdict import Against, Report
from tests.report import golden


def marked() -> Report:
    """Of five findings one is accepted, one known, and a third, which only warns, known too; one is resolved."""
    target = golden.target()
    changes = {
        "dead-relu": {"accepted": "sparse on purpose, see paper 3.2"},
        "batch-mixing": {"known": True},
        "double-softmax": {"known": True},
    }
    checks = tuple(dataclasses.replace(result, **changes.get(result.id, {})) for result in target.checks)
    findings = tuple(id for id in target.findings if id != "dead-relu")
    return dataclasses.replace(
        golden.report(
            dataclasses.replace(target, checks=checks, findings=findings, cached="2026-11-20T08:30:00+00:00")
        ),
        folder="experiments/vision",
        notices=("nncheck.toml:12: the acceptance of shuffle matches nothing any more",),
        baseline=Against(file="nncheck-baseline.json", resolved=("examples/digits_cnn.py: shuffle",)),
    )
