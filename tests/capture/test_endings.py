"""Scripts that die, hang, hide their steps or will not end: what is said of each, and that nothing of them goes on."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tests.capture.scripts import TRAIN, around, check, files, with_lines

# Files that a script leaves open, for instance, are its own affair.
pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.filterwarnings("ignore")]

SEED = "torch.manual_seed(0)"

DYING = {
    # name: (the script, what is said)
    "exception": (
        with_lines(SEED, "raise RuntimeError('no data for shard 3')"),
        r"train\.py stopped before its first optimizer step: RuntimeError: no data for shard 3\n"
        r"    train\.py:\d+  in <module>  main\(\)\n    train\.py:\d+  in main  raise RuntimeError",
    ),
    "syntax": (TRAIN + "for for\n", r"train\.py is not valid Python: invalid syntax\n.*train\.py:\d+.*for for"),
    "missing module": ("import no_such_module\n" + TRAIN, r"needs the module 'no_such_module'.*\n    train\.py:1 "),
    "missing file": (with_lines(SEED, "open('data/train.csv')"), r"No such file or directory: 'data/train\.csv'\n.*<module>"),
    "exit": (with_lines(SEED, "import sys; sys.exit('no GPU found')"), r"called exit\('no GPU found'\) before its first"),
    "quiet exit": (with_lines(SEED, "raise SystemExit"), r"called exit\(\) before its first optimizer step\n.*train\.py:"),
    "os._exit": (with_lines(SEED, "import os; os._exit(3)"), r"called os\._exit\(3\) before.*\n.*\n.*in main  import os"),
    "wrapped": (
        around("try:\n    raise ValueError('root')\nexcept ValueError:\n    raise SystemExit(1)"),
        r"train\.py stopped before its first optimizer step: ValueError: root\n",
    ),
    "no launcher": (
        with_lines(SEED, "import os; rank = int(os.environ['RANK'])"),
        r"KeyError: 'RANK'[\s\S]*RANK=0 WORLD_SIZE=1.* nncheck run train\.py",
    ),
    "no process group": (
        with_lines(SEED, "torch.distributed.init_process_group('gloo')"), r"environment variable RANK expected[\s\S]*RANK=0"
    ),
    "no step": (
        TRAIN.replace("optimizer.step()", "pass").replace("Adam(model.parameters()", "Adam([torch.ones(1)]"),
        r"called backward, but stepped no optimizer\n.*loss\.backward\(\)",
    ),
    "no backward": (
        TRAIN.replace("loss.backward()", "pass").replace("optimizer.step()", "pass"), "never called backward"
    ),
    "another program": (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'torch.distributed.run', 'real.py'], check=True)\n",
        r"leaves its training to another program, which was not started: .*real\.py\n    train\.py:2 ",
    ),
    "replaced by another": (
        "import os, sys\nos.execv(sys.executable, [sys.executable, 'real.py'])\n", r"leaves its training.*real\.py\n.*:2 "
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DYING)
def test_a_script_that_ends_by_itself_is_told_with_its_own_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    Path("real.py").write_text(TRAIN)
    text, said = DYING[name]
    code, output = check(text)
    assert code == 2
    assert re.search(said, output), output
    assert "nncheck/" not in output


def test_the_usage_text_of_a_missing_argument_is_shown() -> None:
    code, output = check(TRAIN.replace("default=0.01", "required=True"))
    assert code == 2
    assert "the following arguments are required: --lr" in output
    assert "nncheck run train.py -- ..." in output
    assert check(TRAIN.replace("default=0.01", "required=True"), arguments=("--lr", "0.1"))[0] == 0


def test_a_file_beside_the_script_is_not_found_from_elsewhere() -> None:
    Path("there").mkdir()
    Path("there/data.csv").write_text("1")
    code, output = check(with_lines(SEED, "open('data.csv')"), name="there/train.py")
    assert code == 2
    assert "it lies beside the script: start nncheck in there" in output


def test_a_script_that_never_steps_stops_at_the_budget_and_says_where() -> None:
    text = with_lines(
        SEED, "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass"
    )
    code, output = check(text, "--budget", "1.5")
    assert code == 2
    assert re.search(
        r"no optimizer step when the time of --budget was up; it was here\n.*main\(\)\n.*time\.sleep", output
    ), output


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_steps_in_child_processes_are_said_and_not_taken(way: str) -> None:
    text = "import torch.multiprocessing as mp\n" + TRAIN.replace("def main():", "def main(rank=0):").replace(
        "\n    main()\n", f"\n    mp.start_processes(main, nprocs=2, start_method={way!r})\n"
    )
    code, output = check(text)
    assert code == 2
    assert re.search(r"takes its steps in child processes[\s\S]*start_processes[\s\S]*optimizer\.step\(\)", output), (
        output
    )
    assert files() == []


HANDLERS = {
    "bare except": "try:\n    main()\nexcept:\n    torch.save({}, 'rescue.pt')\n    open('log.txt', 'w').write('x')",
    "finally": "import os\ntry:\n    main()\nfinally:\n    os.makedirs('runs/last')\n    open('runs/last/x', 'w').close()",
    "for ever": "while True:\n    try:\n        main()\n    except BaseException:\n        open('log', 'a').write('x')",
    "asleep": "import time\ntry:\n    main()\nexcept BaseException:\n    time.sleep(1000)",
    "nested": "import time\ntry:\n    try:\n        main()\n    finally:\n        time.sleep(1000)\nexcept:\n    time.sleep(1000)",
    "alarm": "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\nsignal.alarm(1)\nmain()",
    "folder of its own": "import tempfile\nwith tempfile.TemporaryDirectory(dir='.') as folder:\n"
    "    open(folder + '/x', 'w').close()\n    main()",
}  # fmt: skip


@pytest.mark.parametrize("name", HANDLERS)
def test_no_handler_of_the_script_keeps_it_or_writes(name: str) -> None:
    begun = time.monotonic()
    code, output = check(around(HANDLERS[name]))
    assert code == 0, output
    assert files() == []
    assert time.monotonic() - begun < 30


def test_what_is_open_for_writing_stays_as_it_was_at_the_first_step() -> None:
    opened = "import logging\nlog = logging.FileHandler('train.log')\nlogging.getLogger('mine').addHandler(log)\n"
    opened += "logging.getLogger('mine').warning('start')\ntable = open('m.csv', 'w')\ntable.write('loss\\n')"
    text = with_lines("for epoch", opened).replace(
        "            optimizer.step()\n", "            optimizer.step()\n            logging.getLogger('mine').warning('step')\n"
        "            print(loss.item(), file=table, flush=True)\n",
    )  # fmt: skip
    code, output = check(text)
    assert code == 0, output
    assert "it wrote before its first step: train.log, m.csv" in output
    assert Path("m.csv").read_text() == "loss\n"
    assert Path("train.log").read_text() == "start\n"


def test_threads_exit_handlers_and_programs_of_the_script_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = """
        import atexit, os, subprocess, threading, time
        def beat():
            while True:
                time.sleep(0.02)
                if os.path.exists("go"):
                    open("beat", "a").write("x")
        def bye():
            open("bye", "w").write("x")
        atexit.register(bye)
        open("pid", "w").write(str(subprocess.Popen(["sleep", "300"]).pid))
        threading.Thread(target=beat, name="beat").start()
        main()
    """
    taken_back: list[str] = []
    unregister = atexit.unregister
    monkeypatch.setattr(atexit, "unregister", lambda f: (taken_back.append(f.__name__), unregister(f)))
    code, output = check(around(textwrap.dedent(lines).strip()))
    assert code == 0, output
    assert "beat" not in {thread.name for thread in threading.enumerate()}
    assert taken_back == ["bye"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)
    assert files() == ["pid"]


def test_a_folder_made_before_the_first_step_is_told_by_its_top() -> None:
    lines = "import os\nos.makedirs('runs/a/b')\nopen('runs/a/b/config.json', 'w').write('1')\nopen('runs/x', 'w').write('2')"
    code, output = check(with_lines(SEED, lines))
    assert code == 0
    assert "it wrote before its first step: runs\n" in output


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the supervisor forks")
def test_ctrl_c_reaches_no_handler_of_the_script() -> None:
    lines = """
        import signal, time
        signal.signal(signal.SIGINT, lambda *_: open("handled", "w").close())
        try:
            open("ready", "w").close()
            time.sleep(100)
        except BaseException:
            open("saved.pt", "w").close()
    """
    Path("train.py").write_text(with_lines(SEED, textwrap.dedent(lines).strip()))
    process = subprocess.Popen(
        [sys.executable, "-m", "nncheck", "run", "train.py", "--no-report"], stdout=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 60
        while not Path("ready").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in out
    assert files() == ["ready"]


WRITTEN_PAST_PYTHON = """
import sqlite3
from safetensors.torch import load_file, save_file
save_file(model.state_dict(), "weights.safetensors")
assert len(load_file("weights.safetensors")) == 4
base = sqlite3.connect("runs.db")
base.execute("create table if not exists losses (value real)")
base.execute("insert into losses values (?)", (loss.item(),))
base.commit()
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
open("seen.txt", "w").write(str(len(base.execute("select * from losses").fetchall())))
"""


def test_what_libraries_write_by_code_of_their_own_lies_in_the_overlay() -> None:
    """SQLite's and safetensors' files; the script reads back what it wrote."""
    lines = "".join(f"            {line}\n" for line in WRITTEN_PAST_PYTHON.strip().splitlines())
    code, output = check(TRAIN.replace("            optimizer.step()\n", "            optimizer.step()\n" + lines))
    assert code == 0, output
    assert files() == []
