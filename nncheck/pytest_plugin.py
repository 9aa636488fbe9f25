"""nncheck under pytest: a fixture, a mark, and `pytest --nncheck model.py` with one item a check. Registering imports no torch.

A target is run once by the `nncheck` command in a process of its own, so that a crash of it is a failure like any other, and
its result is shared by all items, those on other xdist workers too.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nncheck.verdict import CheckResult, Report, TargetResult

_FOLDER = pytest.StashKey[Path]()
_TEMPORARY = pytest.StashKey["tempfile.TemporaryDirectory[str]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("nncheck").addoption(
        "--nncheck",
        action="append",
        default=[],
        metavar="TARGET",
        help='check a training set-up, one item a check: model.py, package.module, or "train.py -- ITS ARGUMENTS"',
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "nncheck(target, select=()): check this training set-up first; what is found fails the test"
    )
    shared = getattr(config, "workerinput", {}).get("nncheck_results")
    if shared is None:
        config.stash[_TEMPORARY] = tempfile.TemporaryDirectory(prefix="nncheck-")
        shared = config.stash[_TEMPORARY].name
    config.stash[_FOLDER] = Path(shared)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the results lie."""
    node.workerinput["nncheck_results"] = str(node.config.stash[_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    if _TEMPORARY in config.stash:
        config.stash[_TEMPORARY].cleanup()


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    for target in config.getoption("--nncheck"):
        items.extend(_Target.from_parent(session, name=target, nodeid=target).collect())


class _Target(pytest.Collector):
    """A target; its items are the checks that its configuration selects."""

    def collect(self) -> list[pytest.Item]:
        from nncheck.errors import UsageError

        try:
            ids = _selected(self.name)
        except UsageError as error:
            raise pytest.UsageError(f"--nncheck {self.name}: {error}") from error
        return [_Check.from_parent(self, name=id) for id in ids]


def _selected(target: str) -> list[str]:
    """The ids that a run of the target asks, in order."""
    from nncheck.config import config_for
    from nncheck.registry import catalogue, select

    config = config_for(shlex.split(target)[0])
    chosen = select(config.select, config.ignore)
    return [entry.id for entry in catalogue() if entry.id in chosen]


class _Check(pytest.Item):
    """One check of one target."""

    def runtest(self) -> None:
        target = self.parent.name if self.parent is not None else ""
        report = _result(self.config, target)
        results = [(part, result) for part in report.targets for result in part.checks if result.id == self.name]
        for part in report.targets:
            if part.problem is not None:
                raise _Told(_problem(self.config, target, part.problem))
        _judge(report, results)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, _Told):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        target = self.parent.name if self.parent is not None else ""
        return self.config.invocation_params.dir, None, f"{target}: {self.name}"


class _Told(Exception):
    """A finding as text: it needs no traceback."""


def _problem(config: pytest.Config, target: str, problem: str) -> str:
    """Why a target could not be checked: the whole of it once, its first line where it has been told already."""
    text = f"{target} could not be checked: {problem}"
    try:
        _file(config, target).with_suffix(".told").touch(exist_ok=False)
    except FileExistsError:
        return text.partition("\n")[0]
    return text


def _judge(report: Report, results: Sequence[tuple[TargetResult, CheckResult]]) -> None:
    """Fail with what was found; a check that did not run is skipped, an accepted finding an expected failure."""
    from nncheck.report.terminal import plain_finding
    from nncheck.verdict import Status

    bad = [(part, result) for part, result in results if report.breaks(result) or result.status is Status.ERROR]
    if bad:
        raise _Told("\n\n".join(plain_finding(report, part, result) for part, result in bad))
    for _, result in results:
        if result.accepted:
            pytest.xfail(f"accepted: {result.accepted}")
    if not results or all(result.status is Status.SKIP for _, result in results):
        why = {result.verdict.why_skipped or "" for _, result in results} or {"was not asked"}
        pytest.skip("; ".join(sorted(why)))


def _result(config: pytest.Config, target: str, select: Iterable[str] = ()) -> Report:
    """The report of one run of the target, which the first to ask makes and all others read."""
    from filelock import FileLock

    from nncheck.report.json import from_json

    selected = ",".join(select)
    path = _file(config, target, selected)
    with FileLock(str(path.with_suffix(".lock"))):
        if not path.exists():
            _run(config, target, selected, path)
    return from_json(path.read_text(encoding="utf-8"))


def _file(config: pytest.Config, target: str, selected: str = "") -> Path:
    key = hashlib.sha256(f"{target}\0{selected}".encode()).hexdigest()[:16]
    return config.stash[_FOLDER] / f"{key}.json"


def _run(config: pytest.Config, target: str, selected: str, path: Path) -> None:
    words = shlex.split(target)
    cut = words.index("--") if "--" in words else len(words)
    options = ["--no-report", "--quiet", "--json", str(path), *(["--select", selected] if selected else [])]
    command = [sys.executable, "-m", "nncheck", "run", *words[:cut], *options, *words[cut:]]
    done = subprocess.run(
        command, cwd=config.invocation_params.dir, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if not path.exists():
        raise _Told((done.stderr or done.stdout).strip() or f"nncheck ended with {done.returncode} and no result")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Check the target of a marked test before its body runs."""
    mark = pyfuncitem.get_closest_marker("nncheck")
    if mark is not None:
        report = _marked(pyfuncitem.config, mark)
        asked = pyfuncitem.funcargs.get("nncheck")
        if isinstance(asked, NNCheck):
            asked.report = report
        _fail_for(report)
    return (yield)


def _fail_for(report: Report) -> None:
    from nncheck.report.terminal import plain_findings

    if report.exit_code != 0:
        pytest.fail(plain_findings(report), pytrace=False)


def _marked(config: pytest.Config, mark: pytest.Mark) -> Report:
    unknown = set(mark.kwargs) - {"target", "select"}
    target = mark.kwargs.get("target", mark.args[0] if mark.args else None)
    if unknown or len(mark.args) > 1 or not isinstance(target, str):
        raise pytest.UsageError("@pytest.mark.nncheck takes target=... and select=[...]")
    select = mark.kwargs.get("select", ())
    try:
        return _result(config, target, (select,) if isinstance(select, str) else tuple(select))
    except _Told as told:
        pytest.fail(str(told), pytrace=False)


class NNCheck:
    """What the fixture `nncheck` is: called with a set-up's parts as `nncheck.check`, it fails the test with what is found.

    `report` is the last result; in a test marked with a target, the target's.
    """

    def __init__(self) -> None:
        self.report: Report | None = None

    def __call__(self, model: Any, train_loader: Any = None, **parts: Any) -> Report:
        """Check the set-up and return the report. Raises FindingsError, which fails the test, if there are findings."""
        from nncheck.api import check

        __tracebackhide__ = True
        self.report = check(model, train_loader, **parts)
        return self.report.raise_for_findings()


@pytest.fixture
def nncheck() -> NNCheck:
    """Check a training set-up: `nncheck(model, train_loader, loss_fn=criterion)` fails the test with what is found."""
    return NNCheck()
