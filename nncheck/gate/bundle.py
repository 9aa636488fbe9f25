"""`--bundle FILE.zip`: all that a person who debugs needs of a run, and nothing that says who, where or with which data."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nncheck.errors import UsageError
from nncheck.observe.repository import root_of
from nncheck.report.figures import save_plots
from nncheck.report.json import to_json
from nncheck.report.paths import from_root
from nncheck.report.scrub import scrubbed, scrubber
from nncheck.report.text import findings
from nncheck.reproduce.compose import reproduction
from nncheck.verdict import Place, Report

# Lines of source around the one that a finding names.
AROUND = 8

# An environment variable that may hold a secret, by its name.
_SECRET = re.compile(r"(?i)secret|token|passw|key|credential|auth|cookie|private|dsn|webhook|_pat$|_url$|_uri$")
SHORTEST = 6
_ALWAYS = frozenset({"SSH_AUTH_SOCK", "XAUTHORITY"})

# The earliest time that a zip can hold: equal contents give equal files.
_THEN = (1980, 1, 1, 0, 0, 0)


def write_bundle(report: Report, path: Path, *, data: bool = False) -> None:
    """Write the bundle in one go. `data`: with samples, messages of exceptions and what was printed. Raises UsageError."""
    files = dict(sorted(bundled(report, data=data).items()))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name, _THEN)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def bundled(report: Report, *, data: bool = False) -> dict[str, bytes]:
    """Every file of the bundle by its name."""
    scrub = scrubber(_values(), _names())
    rooted = _places_from_root(report)
    clean = scrubbed(rooted, scrub, data=data)
    files = {
        "result.json": to_json(clean),
        "report.html": clean.to_html(),
        "environment.txt": "".join(f"{name}: {value}\n" for name, value in clean.environment.items()),
        **{f"source/{name}.txt": scrub(text) for name, text in _excerpts(rooted)},
    }
    script = _reproduce(clean)
    if script is not None:
        files["reproduce.py"] = script
    packed = {name: text.encode("utf-8", "backslashreplace") for name, text in files.items()}
    packed |= _figures(clean)
    packed["README.txt"] = _readme(clean, sorted(packed), data=data).encode()
    return packed


def _values() -> Iterator[tuple[str, str]]:
    """What is taken out wherever it stands, and what stands there instead."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and name not in _ALWAYS and len(value) >= SHORTEST:
            yield value, f"${name}"
    yield root_of(os.getcwd()) + os.sep, ""
    for home in {str(Path.home()), os.path.realpath(Path.home())}:
        if len(home) >= SHORTEST:
            yield home, "~"


def _names() -> Iterator[str]:
    yield platform.node()
    with contextlib.suppress(OSError, KeyError, ImportError):
        yield getpass.getuser()


def _places_from_root(report: Report) -> Report:
    """Every place's file from the repository's root; of a file outside, only its name."""

    def placed(place: Place) -> Place:
        return (
            place if place.file is None else replace(place, file=from_root(report, place.file) or Path(place.file).name)
        )

    targets = []
    for target in report.targets:
        checks = tuple(
            replace(c, verdict=replace(c.verdict, places=tuple(map(placed, c.verdict.places)))) for c in target.checks
        )
        targets.append(replace(target, checks=checks))
    return replace(report, targets=tuple(targets))


def _excerpts(report: Report) -> Iterator[tuple[str, str]]:
    """Of each file that a finding names, the lines around: their name and text. Files that are not here are left out."""
    root = Path(root_of(os.getcwd()))
    named: dict[str, set[int]] = {}
    for target in report.targets:
        for result in findings(target):
            for place in result.verdict.places:
                if place.file and place.line:
                    around = range(place.line - AROUND, (place.end_line or place.line) + AROUND + 1)
                    named.setdefault(place.file, set()).update(around)
    for file, wanted in sorted(named.items()):
        path = (root / file).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        shown, last = list[str](), 0
        for number in sorted(n for n in wanted if 1 <= n <= len(lines)):
            shown += [] if number == last + 1 else ["..."]
            shown.append(f"{number:5}  {lines[number - 1]}")
            last = number
        yield file, "\n".join([*shown, *(["..."] if last < len(lines) else [])]) + "\n"


def _figures(report: Report) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return {
            f"figures/{path.name}": path.read_bytes() for path in save_plots(report, folder) if path.suffix == ".png"
        }


def _reproduce(report: Report) -> str | None:
    """The script for the first finding that one can be written for."""
    for target in report.targets:
        for result in findings(target):
            return reproduction(target, result, seed=report.environment.get("seed", "0"), folder=report.folder)
    return None


_SAID = {
    "result.json": "the whole result, as `nncheck run --json` writes it; `nncheck report result.json` renders it again",
    "report.html": "the same as a page",
    "environment.txt": "versions, platform, device, seed, threads and the command",
    "reproduce.py": "the first finding, shown with torch alone: run it in the root of the repository",
    "figures/": "every picture of the report",
    "source/": "the lines around each place that a finding names",
}


def _readme(report: Report, files: list[str], *, data: bool) -> str:
    lines = [f"What nncheck {report.nncheck_version} found, for debugging or a bug report.", ""]
    lines += [f"{name:16} {said}" for name, said in _SAID.items() if any(file.startswith(name) for file in files)]
    if "reproduce.py" not in files and any(target.findings for target in report.targets):
        lines.append("There is no reproduce.py: the parts of this target could not be bound by themselves.")
    seed = report.environment.get("seed", "0")
    lines += ["", f"Every random number was seeded with {seed}.", ""]
    lines.append(
        "Left out: data, weights, environment variables, home folders, names of users and machines, and values that look secret."
    )
    lines.append(
        "Asked for with --bundle-data, and in it: samples of the data, messages of exceptions, what your code printed."
        if data
        else "Samples of the data, messages of exceptions and what your code printed are left out too (--bundle-data adds them)."
    )
    return "\n".join([*lines, "Look through it before you hand it on.", ""])
