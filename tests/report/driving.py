"""What the command line does with a `Terminal`."""

from __future__ import annotations

from nncheck.report.terminal import Terminal
from nncheck.verdict import Report


def run(terminal: Terminal, report: Report) -> None:
    with terminal:
        for target in report.targets:
            terminal.start(target.target)
            terminal.bound(target.bound, target.notes)
            for result in target.checks:
                terminal.check_started(result.id, result.stage)
                terminal.check_done(result)
        terminal.finish(report, written={"report": "nncheck-report.html"})
