"""The terminal's lines: plain, coloured, quiet, verbose, and whatever the names in them try."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nncheck.report.terminal import Terminal, plain_findings, printable
from nncheck.verdict import Report
from tests.report import golden
from tests.report.driving import run
from tests.report.marked import marked
from tests.report.saved import same_as_saved


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


def printed(report: Report, *, quiet: bool = False, verbose: bool = False) -> str:
    stream = io.StringIO()
    run(Terminal(quiet=quiet, verbose=verbose, stream=stream), report)
    return stream.getvalue()


def test_plain() -> None:
    same_as_saved("terminal.txt", printed(golden.report()))


def test_verbose() -> None:
    same_as_saved("terminal-verbose.txt", printed(golden.report(), verbose=True))


def test_several_targets() -> None:
    same_as_saved("terminal-several.txt", printed(golden.report(golden.healthy(), golden.target(), golden.unusable())))


def test_quiet_keeps_the_findings_and_the_last_line() -> None:
    lines = printed(golden.report(), quiet=True).splitlines()
    assert lines[0] == "fail[batch-mixing]: 58 of 240 sample pairs are connected"
    assert lines[-1] == (
        "3 failed, 2 warnings, 1 could not tell, 9 passed, 2 not run in 12 s · exit 1 · report: nncheck-report.html"
    )
    assert printed(golden.report(golden.healthy()), quiet=True).splitlines() == [
        "9 passed, 2 not run in 12 s · exit 0 · report: nncheck-report.html"
    ]


def test_findings_as_text() -> None:
    text = plain_findings(golden.report())
    assert text.startswith("fail[batch-mixing]: ")
    assert "  --> model.py:41  head: weights of scale 3.1\n   |  self.head = nn.Linear(512, 10)\n" in text
    assert text.index("fail[loss-at-init]") < text.index("warn[output-bias-init]") < text.index("could not tell[")
    assert text.endswith("in 12 s · exit 1")


def test_interrupted_is_said() -> None:
    text = printed(replace(golden.report(golden.healthy()), interrupted=True))
    assert text.splitlines()[-1].startswith("interrupted · 9 passed")
    assert "exit 130" in text
    assert "No problem found" not in text


@pytest.mark.parametrize("verbose", [False, True])
def test_names_cannot_command_the_terminal_or_the_ci(verbose: bool) -> None:
    text = printed(golden.report(golden.target(), golden.unusable()), verbose=verbose)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert not any("\ud800" <= letter <= "\udfff" for letter in text)
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())
    assert "\\x1b[31mred" in text
    assert "[bold]not bold[/bold]" in text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("::error::owned", ":\\:error::owned"),
        ("fine\n  ::stop-commands::x", "fine\n  :\\:stop-commands::x"),
        ("see ##[error]owned", "see #\\#[error]owned"),
        ("##vso[task.complete]", "#\\#vso[task.complete]"),
        ("##teamcity[message]", "#\\#teamcity[message]"),
        ("std::vector and a # sign", "std::vector and a # sign"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\x9b31m", "a\\x0db\\x9b31m"),
    ],
)
def test_printable(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


def test_a_console_without_utf8_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252", write_through=True)
    run(Terminal(stream=stream), golden.report())
    assert "x loss-at-init" in raw.getvalue().decode("cp1252")


def test_colours_without_a_terminal_if_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = printed(golden.report())
    assert "\x1b[1;31mfail[loss-at-init]\x1b[0m" in text
    assert "\x1b[31mred" not in text  # a name's own escape
    assert "[bold]not bold[/bold]" in text
    assert "\x1b[?25l" not in text  # no cursor hidden: nothing moves
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed(golden.report())


PROGRAM = """
import sys
from nncheck.report.terminal import Terminal
from tests.report import golden
from tests.report.driving import run
from tests.report.marked import marked
run(Terminal(), golden.report())
loaded = {"torch", "numpy", "matplotlib", "jinja2", "rich"} & set(sys.modules)
print("loaded:", *sorted(loaded), file=sys.stderr)
"""


def on_a_terminal(environment: dict[str, str]) -> str:
    leader, follower = pty.openpty()
    # FORCE_COLOR and CI of the surrounding run say nothing about this one.
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=follower,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent.parent,
        env=clean | {"TERM": "xterm-256color"} | environment,
    )
    os.close(follower)
    seen = b""
    try:
        while chunk := os.read(leader, 65536):
            seen += chunk
    except OSError:  # Linux: the other end is closed
        pass
    os.close(leader)
    assert process.wait(timeout=30) == 0
    return seen.decode()


def test_on_a_terminal_there_is_colour_and_a_spinner() -> None:
    text = on_a_terminal({})
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert "\x1b[31m" in text
    assert "\x1b[31mred" not in text


@pytest.mark.parametrize("environment", [{"CI": "true"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_on_a_terminal_that_wants_it_plain(environment: dict[str, str]) -> None:
    assert "\x1b" not in on_a_terminal(environment)


def test_plain_output_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert done.stderr == "loaded:\n"


def test_what_is_accepted_is_said_apart_with_its_reason() -> None:
    text = printed(marked())
    assert re.search(r"– dead-relu +accepted: sparse on purpose, see paper 3.2", text)
    assert "accepted[dead-relu]: sparse on purpose, see paper 3.2\n   = found: 412 of 512 units" in text
    assert "\nnotice: nncheck.toml:12: the acceptance of shuffle matches nothing any more\n" in text
    assert "fail[dead-relu]" not in text
    assert ", 1 accepted in " in text
