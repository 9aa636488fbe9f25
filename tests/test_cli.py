"""The command line: what it prints, writes, imports and exits with; and that nothing of the user's can hang or break it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from nncheck import __version__
from nncheck.cli import app

SOUND = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 8)
y = (x @ torch.randn(8, 4)).argmax(1)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
train_loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
print("this is the user's own line")
"""
DETACHED = SOUND + "\n\ndef loss_fn(output, target):\n    return nn.functional.cross_entropy(output, target).detach()\n"
QUICK = ["--select", "forward-pass"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "sound.py").write_text(SOUND)
    (tmp_path / "detached.py").write_text(DETACHED)


def call(*arguments: str) -> tuple[int, str]:
    """The command in this process: exit code and everything it printed."""
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, as from a shell."""
    return subprocess.Popen(
        [sys.executable, "-m", "nncheck", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str], timeout: float = 90.0) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def test_a_sound_set_up_passes() -> None:
    code, said = call("run", "sound.py", *QUICK, "--json", "r.json", "--no-report")
    assert code == 0
    assert "model = model (Sequential, 420 parameters)" in said
    assert "loss = loss_fn (CrossEntropyLoss)" in said
    assert "data = train_loader (TensorDataset, batch 16)" in said
    assert "the user's own line" not in said
    assert json.loads(Path("r.json").read_text())["outcome"] == "passed"


def test_a_finding_exits_1_and_never_0() -> None:
    assert call("run", "detached.py", *QUICK, "--no-report")[0] == 1
    assert call("run", "detached.py", *QUICK, "--no-report", "--fail-on", "never")[0] == 0


def test_several_targets_are_kept_apart() -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "model.py").write_text(SOUND.replace("8, 32", f"8, {'32' if folder == 'a' else '16'}").replace("32, 4", f"{'32' if folder == 'a' else '16'}, 4") + "from parts import width\nassert width == __file__.split('/')[-2]\n")  # fmt: skip  # noqa: E501
        Path(folder, "parts.py").write_text(f"width = {folder!r}\n")
    before = dict(sys.modules)
    code, said = call(
        "run", "a/model.py", "b/model.py", "nowhere.py", "detached.py", *QUICK, "--no-report", "--json", "r"
    )
    assert code == 1, said
    targets = json.loads(Path("r").read_text())["targets"]
    assert [target["verdict"] for target in targets] == ["pass", "pass", "error", "fail"]
    assert [target["parameters"] for target in targets] == [420, 212, 0, 420]
    assert "parts" not in set(sys.modules) - set(before)
    assert not list(Path().rglob("__pycache__"))
    assert call("run", "sound.py", "nowhere.py", *QUICK, "--no-report")[0] == 2


def test_every_file_is_written(tmp_path: Path) -> None:
    code, said = call(
        "run", "detached.py", *QUICK, "--report", "out/r.html", "--json", "out/r.json", "--junit", "out/r.xml", "--sarif",
        "out/r.sarif", "--markdown", "out/r.md",
    )  # fmt: skip
    assert code == 1, said
    assert "<main" in Path("out/r.html").read_text()
    assert "forward-pass" in Path("out/r.md").read_text()
    suite = ElementTree.parse("out/r.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    sarif = json.loads(Path("out/r.sarif").read_text())
    [finding] = sarif["runs"][0]["results"]
    location = finding["locations"][0]["physicalLocation"]
    assert finding["ruleId"] == "forward-pass"
    assert location["artifactLocation"]["uri"] == "detached.py"
    assert (
        location["region"]["startLine"]
        == DETACHED.splitlines().index("    return nn.functional.cross_entropy(output, target).detach()") + 1
    )
    # The saved result is rendered again, and a result does not differ from itself.
    assert call("report", "out/r.json", "-o", "again.html") == (0, "report: again.html\n")
    assert call("diff", "out/r.json", "out/r.json") == (0, "detached.py\n  no difference\n")
    assert call("run", "sound.py", *QUICK, "--no-report", "--json", "fine.json")[0] == 0
    code, said = call("diff", "fine.json", "out/r.json")
    assert (code, "new  forward-pass: pass -> fail" in said) == (1, True)
    code, said = call("diff", "out/r.json", "fine.json")
    assert (code, "gone  forward-pass: fail -> pass" in said) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "sound.py", "--select", "forwad-pass"], "did you mean 'forward-pass'"),
        (["run", "sound.py", "--budget", "0"], "above 0"),
        (["run", "sound.py", "--capture"], "sound.py ran to its end and never called backward"),
        (["run", "sound.py:model", "--", "--epochs", "3"], "a script's parts are found from what it does"),
        (["run", "sound.py", "--no-capture", "--", "--epochs", "3"], "--no-capture forbids to run one"),
        (["run", "sound.py", "detached.py", "--", "--epochs", "3"], "belongs to one script, but 2 targets"),
        (["race", "nothing.py", "--", "--epochs", "3"], "there is no file nothing.py"),
        (["run", "sound.py", "--fail-on", "sometimes"], "sometimes"),
        (["run", "sound.py", "--model", "modle", *QUICK, "--no-report"], "did you mean 'model'"),
        (["run", "sound.py", *QUICK, "--no-report", "--json", "sound.py/r.json"], "cannot be written"),
        (["run", "sound.py", *QUICK, "--no-report", "--device", "mps"], "finds no such device"),
        (["run"], "TARGET"),
        (["explain", "loss-at-inti"], "no check or stage"),
        (["report", "nothing.json"], "cannot be read"),
        (["report", "sound.py"], "not an nncheck result"),
        (["diff", "nothing.json", "nothing.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_exits_2_with_a_reason(arguments: list[str], message: str) -> None:
    code, said = call(*arguments)
    assert code == 2
    assert message in " ".join(said.split())
    assert "Traceback" not in said


def test_parts_are_named_by_flags() -> None:
    Path("odd.py").write_text(
        SOUND.replace("model", "first").replace("loss_fn", "measure").replace("train_loader", "stream")
        + "second = nn.Linear(8, 4)\nother = DataLoader(TensorDataset(x, y), batch_size=8)\n"
    )
    assert call("run", "odd.py", *QUICK, "--no-report")[0] == 2
    flags = ["--model", "second", "--train-loader", "other", "--loss", "measure", "--epochs", "7"]
    code, said = call("run", "odd.py", *flags, *QUICK, "--no-report")
    assert code == 0, said
    assert "model = second (Linear, 36 parameters)" in said
    assert "data = other (TensorDataset, batch 8)" in said


def test_init_writes_a_file_that_runs() -> None:
    assert call("init", "sound.py")[0] == 0
    code, said = call("run", "nncheck_setup.py", *QUICK, "--no-report")
    assert code == 0, said
    assert call("init", "sound.py")[0] == 2
    Path("train.py").write_text(SOUND + "loss_fn(model(x), y).backward()\n")
    assert call("init", "train.py", "-o", "other.py")[0] == 0
    text = Path("other.py").read_text()
    assert "trains when it is imported" in text
    assert "optimizer = torch.optim.Adam(model.parameters(), lr=0.001)" in text
    compile(text, "other.py", "exec")


def test_a_full_traceback_is_shown_only_when_asked() -> None:
    Path("wrong.py").write_text(SOUND.replace("nn.Linear(8, 32)", "nn.Linear(5, 32)"))
    _, said = call("run", "wrong.py", *QUICK, "--no-report")
    assert "Traceback" not in said
    assert "it printed last:\n      this is the user's own line" in said
    code, said = call("run", "wrong.py", *QUICK, "--no-report", "--full-traceback")
    assert code == 2
    assert re.search(r"Traceback \(most recent call last\):[\s\S]*torch/nn/modules/linear\.py", said)


def test_list_and_explain_know_every_check() -> None:
    from nncheck.registry import catalogue

    said = call("list")[1]
    for entry in catalogue():
        assert re.search(rf"^  {entry.id} ", said, re.MULTILINE)
    code, said = call("explain", "forward-pass")
    assert code == 0
    for heading in ("What it does", "Why it matters", "How to fix", "Known limits", "Source"):
        assert f"\n{heading}\n" in said


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["run", "--help"], ["list"], ["explain", "forward-pass"], ["report", "r.json"]],
)
def test_quick_commands_import_no_torch(arguments: list[str]) -> None:
    if arguments[0] == "report":
        assert call("run", "detached.py", *QUICK, "--no-report", "--json", "r.json")[0] == 1
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\ntry:\n    import nncheck.cli; nncheck.cli.main()\nexcept SystemExit: pass\n"
        "bad = {'torch', 'lightning', 'transformers'} | (set() if 'report' in sys.argv else {'numpy', 'matplotlib', 'jinja2'})\n"
        "sys.stderr.write(' '.join(sorted(bad & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip()
    if arguments == ["--version"]:
        assert done.stdout == f"nncheck {__version__}\n"


def test_standard_output_is_only_json_when_asked(tmp_path: Path) -> None:
    Path("loud.py").write_text(SOUND + 'import os\nos.system("echo from a child")\nos.write(1, b"from C")\n')
    code, out, err = finish(start("run", "loud.py", *QUICK, "--no-report", "--json", "-"))
    assert code == 0
    assert json.loads(out)["verdict"] == "pass"
    assert "forward-pass" in err
    assert not re.search("from a child|from C|user's own", out + err)


def test_the_first_line_comes_before_torch() -> None:
    Path("slow.py").write_text("import time\ntime.sleep(60)\n")
    process = start("run", "slow.py", "--no-report", "--budget", "30")
    try:
        begun = time.monotonic()
        assert process.stdout is not None
        assert "slow.py" in process.stdout.readline()
        assert time.monotonic() - begun < 20
        process.send_signal(signal.SIGINT)
        code, out, _ = finish(process)
    finally:
        process.kill()
    assert code == 130
    assert "interrupted" in out


HANGS = {
    # name: (what the model does on its first call in eval or later call, exit code, what is said)
    "os_exit": ("os._exit(0)", "ended itself with code 0"),
    "crash": ("ctypes.string_at(0)", "was ended by SIGSEGV"),
    "endless_c": ("sum(itertools.repeat(0))", "did not end"),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="watching needs fork")
@pytest.mark.parametrize("name", HANGS)
def test_what_cannot_be_stopped_from_within_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what, message = HANGS[name]
    budget = "20" if name == "endless_c" else "90"  # torch alone may take 10 s to load where two cores are shared
    Path("lost.py").write_text(
        SOUND
        + textwrap.dedent(f"""
        import ctypes, itertools, os

        class Lost(nn.Linear):
            def forward(self, x):
                {what}

        model = Lost(8, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        """)
    )
    code = "import nncheck.process.supervisor as s, sys; s.GRACE_SECONDS = 1.0; from nncheck.cli import main; sys.exit(main())"
    process = subprocess.run(
        [sys.executable, "-c", code, "run", "lost.py", *QUICK, "--budget", budget, "--json", "r.json", "--no-report"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert process.returncode == 2, process.stderr
    assert message in process.stdout
    result = json.loads(Path("r.json").read_text())
    assert result["outcome"] == "could-not-run"
    assert message in result["targets"][0]["problem"]


def test_ctrl_c_writes_what_was_done() -> None:
    Path("slow.py").write_text(
        SOUND
        + textwrap.dedent("""
        import time

        calls = 0

        class Slow(nn.Linear):
            def forward(self, x):
                global calls
                calls += 1
                if calls > 1:
                    open("waiting", "w").close()
                    time.sleep(60)
                return super().forward(x)

        model = Slow(8, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        """)
    )
    process = start("run", "slow.py", "--json", "r.json", "--report", "r.html")
    try:
        end = time.monotonic() + 60
        while not Path("waiting").exists():
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
    finally:
        process.kill()
    assert code == 130, err
    result = json.loads(Path("r.json").read_text())
    assert result["outcome"] == "interrupted"
    checks = {check["id"]: check for check in result["targets"][0]["checks"]}
    assert checks["forward-pass"]["status"] == "pass"
    assert "interrupted" in {check.get("why_skipped") for check in checks.values()}
    assert "<main" in Path("r.html").read_text()
    assert "interrupted" in out


def test_checks_left_at_the_end_of_the_budget_are_skipped() -> None:
    Path("slow.py").write_text(
        SOUND + "import time\n\nclass Slow(nn.Linear):\n    def forward(self, x):\n        time.sleep(0.5)\n"
        "        return super().forward(x)\n\nmodel = Slow(8, 4)\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    )
    begun = time.monotonic()
    code, said = call("run", "slow.py", "--no-report", "--budget", "3", "--json", "r.json")
    assert time.monotonic() - begun < 10
    checks = json.loads(Path("r.json").read_text())["targets"][0]["checks"]
    assert code in (0, 2), said
    assert any(check.get("why_skipped") == "the time budget is used up" for check in checks)


def test_the_demo_finds_its_planted_fault() -> None:
    code, said = call("demo")
    assert code == 0
    assert said.index("fail[double-softmax]") < said.index("The fault is planted")
    text = Path("nncheck_demo.py").read_text()
    Path("nncheck_demo.py").write_text(re.sub(r"    nn\.Softmax.*\n", "", text))
    code, said = call("run", "nncheck_demo.py", "--no-report", "--fail-on", "warn")
    assert code == 0, said
