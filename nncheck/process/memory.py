"""What a run is held against and what is kept of it for the next: the baseline, and the checks that failed last."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nncheck.gate.baseline import Known, baseline_text, held_against, read_baseline, updated
from nncheck.gate.folder import cache_folder, make_cache_folder
from nncheck.gate.last import FILE, last_failed, last_failed_text, remembered
from nncheck.observe.repository import file_of_target, root_of
from nncheck.observe.source import shown
from nncheck.process.outputs import write_text
from nncheck.process.session import Job, Options
from nncheck.report.paths import split_target
from nncheck.verdict import Report


def in_memory(report: Report, options: Options) -> Report:
    """The report held against the baseline, which is written if that was asked; what failed is remembered.

    Raises UsageError for a baseline that cannot be read or written.
    """
    _remember(report)
    if options.baseline is None:
        return report
    file = shown(str(options.baseline))
    entries = _baseline(options)
    if not options.update_baseline:
        return held_against(report, entries, file=file)
    # Of a run that was cut short, what was told may still be written: the rest stays as it was.
    after = updated(report, entries, root=Path(root_of(os.getcwd())))
    write_text(options.baseline, baseline_text(after))
    before = held_against(report, entries, file=file).baseline
    return replace(held_against(report, after, file=file), baseline=before)


def wrote(options: Options) -> dict[str, str]:
    """What `in_memory` has written that people should know of."""
    return {"baseline": shown(str(options.baseline))} if options.baseline and options.update_baseline else {}


def _baseline(options: Options) -> tuple[Known, ...]:
    assert options.baseline is not None
    if options.update_baseline and not options.baseline.exists():
        return ()
    return read_baseline(options.baseline)


def _remember(report: Report) -> None:
    """A healthy run leaves no file behind; a folder that cannot be written is no reason to fail."""
    before = last_failed(cache_folder())
    after = remembered(report, before)
    if after != before:
        with contextlib.suppress(OSError):
            write_text(make_cache_folder() / FILE, last_failed_text(after))


def only_last_failed(jobs: Iterable[Job]) -> tuple[tuple[Job, ...], bool]:
    """The jobs with the checks that found something in their last run, targets without any left out; whether there were some.

    Where nothing is remembered, all jobs as they are.
    """
    every = tuple(jobs)
    memory = last_failed(cache_folder())
    narrowed = []
    for job in every:
        file = file_of_target(split_target(job.target)[0]) or split_target(job.target)[0]
        failed = frozenset(
            id for target, ids in memory.items() if target.partition(" [")[0].partition(":")[0] == file for id in ids
        )
        if failed & job.selected:
            narrowed.append(replace(job, selected=failed & job.selected))
    return (tuple(narrowed), True) if narrowed else (every, False)
