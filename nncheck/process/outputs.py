"""The files that a run or a saved result is written to, and how: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from nncheck.errors import UsageError
from nncheck.observe.source import shown
from nncheck.report.terminal import Terminal
from nncheck.verdict import Report

# The files of which a later step of a GitHub workflow is told where they lie.
STEP_OUTPUTS = ("report", "json", "junit", "sarif", "gitlab", "markdown", "bundle")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is to be written. Paths are absolute: the user's code may change the folder. json "-": standard output."""

    report: Path | None = None
    json: Path | Literal["-"] | None = None
    junit: Path | None = None
    sarif: Path | None = None
    gitlab: Path | None = None
    markdown: Path | None = None
    save_plots: Path | None = None
    bundle: Path | None = None
    bundle_data: bool = False


def write_outputs(report: Report, outputs: Outputs, stream: TextIO | None = None) -> dict[str, str]:
    """Write every file that was asked for; what lies where, for people. Raises UsageError if one cannot be written."""
    if outputs.json == "-":
        stream = sys.stdout if stream is None else stream
        stream.write(_json(report))
        stream.flush()
    files: tuple[tuple[str, Path | None, Callable[[Report], str]], ...] = (
        ("json", outputs.json if isinstance(outputs.json, Path) else None, _json),
        ("junit", outputs.junit, _junit),
        ("sarif", outputs.sarif, _sarif),
        ("gitlab", outputs.gitlab, _gitlab),
        ("markdown", outputs.markdown, Report.to_markdown),
        ("report", outputs.report, Report.to_html),
    )
    written: dict[str, str] = {}
    for name, path, render in files:
        if path is not None:
            write_text(path, render(report))
            written[name] = shown(str(path))
    if outputs.save_plots is not None:
        from nncheck.report.figures import save_plots

        try:
            save_plots(report, outputs.save_plots)
        except OSError as error:
            raise UsageError(f"{outputs.save_plots}: {error.strerror or error}") from error
        written["plots"] = shown(str(outputs.save_plots))
    if outputs.bundle is not None:
        from nncheck.gate.bundle import write_bundle

        write_bundle(report, outputs.bundle, data=outputs.bundle_data)
        written["bundle"] = shown(str(outputs.bundle))
    return written


def conclude(
    report: Report, outputs: Outputs, terminal: Terminal, *, out: TextIO, stream: TextIO, wrote: Mapping[str, str]
) -> None:
    """Write the files, end the terminal's lines, and tell the surroundings. out: where `--json -` goes; stream: the terminal's.

    wrote: what lies where already. Raises UsageError if a file cannot be written.
    """
    written = {**wrote, **write_outputs(report, outputs, out)}
    terminal.finish(report, written=written)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        publish(report, outputs, stream)
    stream.flush()


def publish(report: Report, outputs: Outputs, stream: TextIO) -> None:
    """Annotations on the stream, which is to be one that GitHub's runner reads, the job's summary and the step's outputs.

    What cannot be shown there is no reason to fail: the exit code says what was found.
    """
    from nncheck.report.github import MAX_SUMMARY_BYTES, annotation_lines, job_summary, step_outputs

    for line in annotation_lines(report):
        stream.write(line + "\n")
    stream.flush()
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with contextlib.suppress(OSError), open(summary, "ab") as file:
            text = job_summary(report, room=MAX_SUMMARY_BYTES - file.tell() - 1)
            file.write(text.encode("utf-8", "replace") + b"\n")
    values = os.environ.get("GITHUB_OUTPUT")
    if values:
        files = {name: str(path) for name in STEP_OUTPUTS if isinstance(path := getattr(outputs, name), Path)}
        with contextlib.suppress(OSError), open(values, "a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(step_outputs(report, files))


def _json(report: Report) -> str:
    from nncheck.report.json import to_json

    return to_json(report)


def _junit(report: Report) -> str:
    from nncheck.report.junit import to_junit

    return to_junit(report)


def _sarif(report: Report) -> str:
    from nncheck.report.sarif import to_sarif

    return to_sarif(report)


def _gitlab(report: Report) -> str:
    from nncheck.report.gitlab import to_gitlab

    return to_gitlab(report)


def write_text(path: Path, text: str) -> None:
    """Write a file in one go, its folder made if need be: a reader never sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a pipe or a device such as /dev/stderr
            path.write_text(text, encoding="utf-8")
            return
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
