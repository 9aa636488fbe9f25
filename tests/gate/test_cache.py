"""A target is not run again only if nothing has changed that its run had read: a stale pass is impossible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nncheck.gate import cache as caching, surroundings as around
from nncheck.gate.cache import Cache, Hit
from nncheck.gate.inputs import changed
from nncheck.verdict import CheckResult, Cost, Doc, Stage, TargetResult, errored, failed, passed, skipped
from tests.gate.test_parallel import FAKE, SOUND

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="what a target reads is noted in a process of its own")

# A process that notes what a piece of code reads, without torch and without the command around it.
RECORD = """
import json, os, sys, tempfile
from pathlib import Path
from nncheck.gate.recorder import Recorder
journals = Path(sys.argv[2])
recorder = Recorder(dict(os.environ), journals)
recorder.watch_environment()
sys.path[0] = os.getcwd()
recorder.watch_files("0")
exec(compile(sys.argv[1], "target.py", "exec"), {"__name__": "target"})
os.chdir(Path(__file__).parent if "__file__" in globals() else os.getcwd())
print(json.dumps(recorder.finish()))
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repository")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


def record(code: str, **environment: str) -> tuple[Any, str]:
    """What the code reads, or None and why that cannot be told."""
    journals = Path("../journals").absolute()
    journals.mkdir(exist_ok=True)
    for old in journals.iterdir():
        old.unlink()
    done = subprocess.run(
        [sys.executable, "-c", RECORD, textwrap.dedent(code), str(journals)],
        capture_output=True, text=True, check=False, env=dict(os.environ) | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    inputs, why = json.loads(done.stdout.splitlines()[-1])
    return inputs, why


def rewrite(path: str, text: str) -> None:
    """Other contents of the same size, with the time of the old ones."""
    before = os.stat(path)
    assert len(text) == before.st_size
    Path(path).write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def make(path: str, text: str = "") -> Callable[[], object]:
    def write() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    return write


CHANGES: dict[str, tuple[str, Callable[[], object], str]] = {
    # what: (the target's code, what is done then, what is said to have changed)
    "a module beside it": ("import helper", lambda: rewrite("helper.py", "a = 2\n"), "helper.py"),
    "a module imported late": ("def f():\n    import helper\nf()", lambda: rewrite("helper.py", "a = 2\n"), "helper.py"),
    "data of the same size and time": ("open('data.csv').read()", lambda: rewrite("data.csv", "4,5,6"), "data.csv"),
    "data by its descriptor": ("import os\nos.open('data.csv', os.O_RDONLY)", lambda: rewrite("data.csv", "4,5,6"), "data.csv"),
    "data read after a change of folder": (
        "import os\nos.chdir('files')\nopen('one.txt').read()", lambda: rewrite("files/one.txt", "b"), "one.txt",
    ),
    "data of NumPy": ("import numpy\nnumpy.fromfile('data.csv', 'u1')", lambda: rewrite("data.csv", "4,5,6"), "data.csv"),
    "data read by a copy of the process": (
        "import multiprocessing as m\nm.get_context('fork').Pool(1).apply(eval, (\"open('data.csv').read()\",))",
        lambda: rewrite("data.csv", "4,5,6"), "data.csv",
    ),
    "data that is gone": ("open('data.csv').read()", lambda: Path("data.csv").unlink(), "data.csv"),
    "a database": (
        "import sqlite3\nsqlite3.connect('base.db').execute('select 1')", lambda: rewrite("base.db", ""), "",
    ),
    "a new file in a listed folder": ("import os\nos.listdir('files')", make("files/two.txt"), "files"),
    "a new file that a pattern finds": ("import glob\nglob.glob('files/*.txt')", make("files/two.txt"), "files"),
    "a new file below a walk": ("import os\nlist(os.walk('files'))", make("files/deep/two.txt"), "files"),
    "a new file for pathlib": ("from pathlib import Path\nlist(Path('files').iterdir())", make("files/two.txt"), "files"),
    "a missing file that appears": ("import os\nos.path.exists('weights.pt')", make("weights.pt"), "weights.pt"),
    "one that pathlib missed": ("from pathlib import Path\nPath('a/weights.pt').is_file()", make("a/weights.pt"), "weights.pt"),
    "one that could not be opened": ("try: open('own.toml')\nexcept OSError: pass", make("own.toml"), "own.toml"),
    "the time of a file that was asked for": (
        "import os\nos.path.getmtime('data.csv')", lambda: os.utime("data.csv", (1, 1)), "data.csv",
    ),
    "a module that was not there": ("try: import optional\nexcept ImportError: pass", make("optional.py"), "the modules in"),
    "a module before the one imported": ("import helper", make("helper/__init__.py"), "the modules in"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_read_and_is_another_now_is_noticed(what: str) -> None:
    code, change, said = CHANGES[what]
    Path("helper.py").write_text("a = 1\n")
    Path("data.csv").write_text("1,2,3")
    make("files/one.txt", "a")()
    make("base.db")()
    inputs, why = record(code)
    assert why == ""
    make("unrelated.py", "import os")()
    make("nncheck-report.html")()
    os.utime("helper.py")
    assert changed(inputs, os.environ) is None
    change()
    if said:
        assert said in (changed(inputs, os.environ) or "nothing")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os\nos.environ['SIZE']", "SIZE"),
        ("import os\nos.getenv('SIZE')", "SIZE"),
        ("import os\n'SIZE' in os.environ", "SIZE"),
        ("import os\nos.environb[b'SIZE']", "SIZE"),
        ("import os\nos.environ['SIZE'] = '4'\nos.environ['SIZE']", "SIZE"),
        ("import os\ndict(os.environ)", "*"),
    ],
)
def test_a_variable_that_was_read_is_noticed_and_not_written_down(code: str, said: str) -> None:
    inputs, why = record(code, SIZE="very-secret")
    assert why == ""
    assert "very-secret" not in json.dumps(inputs)
    before = dict(os.environ) | {"SIZE": "very-secret"}
    assert changed(inputs, before) is None
    assert changed(inputs, before | {"SHLVL": "9"}) is None
    assert changed(inputs, before | {"SIZE": "other"}) == f"the environment ({said})"
    assert (changed(inputs, before | {"OTHER": "1"}) is None) == (said == "SIZE")


def test_what_a_run_writes_itself_is_no_input() -> None:
    code = """
    import os, tempfile
    os.makedirs("runs", exist_ok=True)
    open("runs/log.txt", "w").write(str(os.getpid()))
    open("runs/log.txt").read()
    with tempfile.TemporaryDirectory() as folder:
        open(f"{folder}/scratch", "w").write("x")
        open(f"{folder}/scratch").read()
    """
    record(code)
    inputs, why = record(code)
    assert (why, changed(inputs, os.environ)) == ("", None)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import subprocess\nsubprocess.run(['true'])", "another program, true"),
        ("import os\nos.system('true')", "another program"),
        ("import socket\nsocket.socket().connect_ex(('127.0.0.1', 9))", "the network"),
        ("import socket\ntry: socket.getaddrinfo('localhost', 9)\nexcept OSError: pass", "the network"),
        ("import ctypes\nctypes.CDLL(None).getpid()", "compiled code by ctypes"),
        ("import sys, types, importlib.machinery as m\nx = types.ModuleType('fast')\nx.__file__ = __import__('os').path.abspath('fast' + m.EXTENSION_SUFFIXES[0])\nsys.modules['fast'] = x", "is compiled"),  # noqa: E501
        ("open('data.csv').read()\nopen('data.csv', 'a').write('x')", "changed while it was read"),
        ("import multiprocessing as m\np = m.get_context('spawn').Process(target=print)\np.start(); p.join()", "no copies"),
        ("import os\nos.mkfifo('pipe')\nos.close(os.open('pipe', os.O_RDONLY | os.O_NONBLOCK))", "no ordinary file"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_is_not_believed_again(code: str, said: str) -> None:
    Path("data.csv").write_text("1,2,3")
    inputs, why = record(code)
    assert inputs is None
    assert said in why


DOC = Doc(title="t", what="w", why="w", fix="f", limits="l", source="s")


def result(id: str = "symmetry", verdict: Any = None) -> CheckResult:
    verdict = passed("fine", numbers={"x": 0.1 + 0.2}) if verdict is None else verdict
    return CheckResult(id=id, stage=Stage.INIT, verdict=verdict, seconds=0.5, doc=DOC)


def target(*checks: CheckResult, **more: Any) -> TargetResult:
    return TargetResult(
        target="model.py", model="Net", parameters=1, loss="L", optimizer="SGD", bound=("b",), notes=("n",), checks=checks,
        findings=(), seconds=1.5, cost=Cost(seconds=1.5, train_steps=3.25, by_probe={"p": 1.0}), **more,
    )  # fmt: skip


QUESTION: dict[str, Any] = {
    "target": "model.py", "arguments": ("--epochs", "3"), "checks": ["symmetry"], "seed": 0, "device": "auto", "budget": 600.0,
    "checklist": {},
}  # fmt: skip
NOTHING: dict[str, Any] = {
    "files": {}, "stats": {}, "folders": {}, "names": [], "modules": {}, "libraries": {}, "variables": {}
}  # fmt: skip
WHEN = "2026-11-21T12:00:00+00:00"


@pytest.fixture
def same(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Surroundings that stay as they are until a test changes them."""
    lines = {
        "nncheck": "1",
        "Python": "3.11",
        "the machine": "m",
        "the installed packages": "p",
        "the environment": "e",
    }
    monkeypatch.setattr(caching, "surroundings", lambda _: dict(lines))
    return lines


def keep(*checks: CheckResult, **more: Any) -> str:
    return Cache({}).keep(QUESTION, [target(*checks, **more)], environment={"torch": "2"}, inputs=NOTHING, created=WHEN)


def test_what_is_kept_comes_back_to_the_last_bit(same: dict[str, str]) -> None:
    bad = failed("x", expected="y", numbers={"r": float("inf")}, follows=("dead-relu",))
    assert keep(result(), result("gradient-flow", bad)) == ""
    hit = Cache({}).find(QUESTION)
    assert isinstance(hit, Hit)
    assert hit.results == (target(result(), result("gradient-flow", bad), cached=WHEN),)
    assert (hit.environment, hit.since) == ({"torch": "2"}, WHEN)
    assert Path(".nncheck_cache/.gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"device": "cpu"}, {"arguments": ("--epochs", "4")}, {"checks": ["symmetry", "dead-relu"]}, {"target": "b.py"},
     {"budget": 5.0}, {"checklist": {"ablations": "done"}}],
)  # fmt: skip
def test_another_question_has_another_answer(same: dict[str, str], other: dict[str, Any]) -> None:
    assert keep(result()) == ""
    assert Cache({}).find(QUESTION | other) == ""
    assert isinstance(Cache({}).find(QUESTION), Hit)


@pytest.mark.parametrize("name", ["nncheck", "Python", "the machine", "the installed packages", "the environment"])
def test_other_surroundings_ask_for_a_new_run(same: dict[str, str], name: str) -> None:
    assert keep(result()) == ""
    same[name] = "another"
    assert Cache({}).find(QUESTION) == name


def test_surroundings_know_of_packages_sources_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, own = tmp_path / "site-packages", tmp_path / "nncheck"
    for folder in (site / "thing-1.0.dist-info", own / "checks"):
        folder.mkdir(parents=True)
    (site / "thing-1.0.dist-info" / "RECORD").write_text("thing.py,sha256=a,1")
    (own / "__init__.py").write_text("")
    (own / "checks" / "one.py").write_text("a = 1")
    monkeypatch.setattr(around.site, "getsitepackages", lambda: [str(site)])
    monkeypatch.setattr(around.nncheck, "__file__", str(own / "__init__.py"))
    seen = [around.surroundings({})]

    def differs() -> list[str]:
        seen.append(around.surroundings({}))
        return [name for name in seen[-1] if seen[-1][name] != seen[-2][name]]

    assert differs() == []
    (own / "checks" / "one.py").write_text("a = 2")
    assert differs() == ["nncheck"]
    (site / "thing-1.0.dist-info" / "RECORD").write_text("thing.py,sha256=b,1")
    assert differs() == ["the installed packages"]
    (site / "thing-1.0.dist-info").rename(site / "thing-1.1.dist-info")
    assert differs() == ["the installed packages"]
    (site / "mine.pth").write_text("/elsewhere")
    assert differs() == ["the installed packages"]
    monkeypatch.setattr(around.sys, "version", "3.99")
    assert differs() == ["Python"]
    assert around.surroundings({"OMP_NUM_THREADS": "3"})["the environment"] != seen[-1]["the environment"]


@pytest.mark.parametrize(
    ("checks", "more", "why"),
    [
        ([result("symmetry", errored("crash"))], {}, "symmetry could not tell"),
        ([result("symmetry", skipped("the time budget is used up"))], {}, "its time ran out"),
        ([result("symmetry", skipped("interrupted"))], {}, "its time ran out"),
        ([], {"problem": "no model"}, "it could not be used"),
    ],
)
def test_a_run_that_was_not_whole_is_not_kept(
    same: dict[str, str], checks: list[CheckResult], more: dict[str, Any], why: str
) -> None:
    assert keep(*checks, **more) == why
    assert Cache({}).find(QUESTION) == ""


def test_what_cannot_be_read_is_no_answer(same: dict[str, str]) -> None:
    assert keep(result()) == ""
    [file] = Path(".nncheck_cache").glob("*.json")
    whole = file.read_text()
    forged = whole.replace('"status": "pass"', '"status": "fail"')
    assert forged != whole
    for text in ("", "{", whole[: len(whole) // 2], forged, "[]", '{"body": {}, "digest": ""}', "[" * 100_000):
        file.write_text(text)
        assert Cache({}).find(QUESTION) == "what was kept of it cannot be read"
    file.write_bytes(b"\xff\xfe")
    assert isinstance(Cache({}).find(QUESTION), str)
    file.unlink()
    file.mkdir()
    assert isinstance(Cache({}).find(QUESTION), str)
    file.rmdir()
    file.write_text(whole)
    assert isinstance(Cache({}).find(QUESTION), Hit)


STEP = """
entries = [entry for entry in catalogue() if entry.id in ("symmetry", "dead-relu")]
def step(name, check):
    names = {}
    exec(open(name).read(), names)
    import nncheck.verdict as v
    bad = names.get("bad") and check == "symmetry"
    globals()["passed"] = (lambda text: v.failed(text, expected="e", places=(v.Place(name="head"),))) if bad else v.passed
"""


def command(*arguments: str) -> tuple[int, str, dict[str, Any]]:
    """The command with a target's work replaced: its file is run for each of two checks, and `bad` in it is a finding."""
    done = subprocess.run(
        [sys.executable, "-c", FAKE.format(step=STEP), "run", "model.py", "--cache", "--no-report", "--json", "r.json", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode, done.stdout, json.loads(Path("r.json").read_text())["targets"][0]


def test_outputs_levels_and_acceptances_are_applied_afresh_and_never_kept() -> None:
    Path("model.py").write_text("bad = True\n")
    code, said, kept = command()
    assert (code, kept.get("cached")) == (1, None)
    assert "not run again" not in said
    code, said, kept = command()
    assert code == 1
    assert "not run again" in said, said
    assert kept["cached"]
    assert command("--fail-on", "never", "--junit", "r.xml")[0] == 0
    Path("nncheck.toml").write_text('[[accept]]\ncheck = "symmetry"\nreason = "on purpose"\n')
    code, _, kept = command()
    assert (code, bool(kept["cached"]), kept["findings"]) == (0, True, [])
    assert {check["id"]: check.get("accepted") for check in kept["checks"]}["symmetry"] == "on purpose"
    Path("nncheck.toml").write_text("")
    code, _, kept = command()
    assert (code, bool(kept["cached"])) == (1, True)
    Path("nncheck.toml").write_text('[level]\nsymmetry = "warn"\n')
    assert command()[0] == 0
    Path("nncheck.toml").unlink()
    Path("model.py").write_text("good = True\n")
    code, said, kept = command()
    assert (code, kept.get("cached")) == (0, None)
    assert "this has changed: " in said
    assert "model.py" in said.partition("this has changed: ")[2].splitlines()[0]


def test_an_unchanged_target_needs_no_torch_and_a_changed_one_is_run_again() -> None:
    Path("model.py").write_text(SOUND + "known = torch.from_file('data.bin', size=6, dtype=torch.uint8)\n")
    Path("data.bin").write_text("1 2 3\n")
    arguments = ["run", "model.py", "--select", "forward-pass,symmetry", "--cache", "--json", "r.json"]
    code = "import sys\nfrom nncheck.cli import main\ncode = main()\nprint('torch' in sys.modules, file=sys.stderr)\nsys.exit(code)"

    def run() -> tuple[str, dict[str, Any]]:
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.splitlines()[-1] == "False"
        return done.stdout, json.loads(Path("r.json").read_text())

    _, first = run()
    said, second = run()
    assert "not run again" in said
    assert "loading torch" not in said
    assert second["targets"][0].pop("cached")
    assert second["targets"] == first["targets"]
    assert second["environment"]["torch"] == first["environment"]["torch"]
    rewrite("data.bin", "1 2 4\n")
    said, third = run()
    assert "cached" not in third["targets"][0]
    assert "data.bin" in said
