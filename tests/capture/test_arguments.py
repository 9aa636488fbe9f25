"""How a script is started: what it finds in `sys.argv`, `__file__`, `__main__` and its folder; and which files are scripts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from nncheck.target.reading import read, trains_as_script
from tests.capture.scripts import TRAIN, around, check, files, with_lines

pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.filterwarnings("ignore")]

SEED = "torch.manual_seed(0)"
ADAM = "torch.optim.Adam(model.parameters(), lr=args.lr)"
LOOP = TRAIN[TRAIN.index("    torch.manual_seed") : TRAIN.index("\n\nif __name__")]

STYLES = {
    "argv as typed": with_lines(SEED, "import sys\nassert sys.argv == ['train.py', '--lr', '0.1'], sys.argv"),
    "its own file": with_lines(SEED, "from pathlib import Path\nassert Path(__file__) == Path('train.py').resolve()"),
    "pickled classes": "import dataclasses, pickle\n\n@dataclasses.dataclass\nclass Config:\n    lr: float = 0.1\n"
    + with_lines(SEED, "assert pickle.loads(pickle.dumps(Config())) == Config()"),
    "itself imported": with_lines(SEED, "import train\nassert train.main is not main"),
    "workers": TRAIN.replace("shuffle=True", "shuffle=True, num_workers=4, persistent_workers=True, pin_memory=True"),
    "a gpu that is not there": TRAIN.replace("nn.Linear(16, 2))", "nn.Linear(16, 2)).cuda()").replace(
        "            optimizer.zero_grad()\n",
        "            inputs, labels = inputs.cuda(), labels.to('cuda')\n            optimizer.zero_grad()\n"
    ),
    "defaults of torch": with_lines(
        SEED, "torch.use_deterministic_algorithms(True)\ntorch.set_default_device('cpu')\ntorch.set_default_dtype(torch.float64)"
    ),
    "steps by hand": TRAIN.replace(ADAM, "model").replace(
        "optimizer.step()",
        "for p in model.parameters():\n                with torch.no_grad():\n                    p -= args.lr * p.grad"
    ),
    "data changed by hand": TRAIN.replace(ADAM, "model").replace(
        "optimizer.step()", "for p in model.parameters():\n                p.data.add_(p.grad, alpha=-args.lr)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_a_script_is_run_as_python_would_run_it(style: str) -> None:
    code, output = check(STYLES[style], "--device", "cpu", arguments=("--lr", "0.1"))
    assert code == 0, output
    assert "gives the first loss again" in output
    assert ("no torch optimizer steps" in output) == ("by hand" in style)
    assert files() == []


@pytest.mark.parametrize("name", ["a b.py", "run [1].py", "größe/train ü.py"])
def test_odd_names_and_other_folders(name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).with_name("helper.py").write_text("from pathlib import Path\nhome = Path.cwd()\n")
    code, output = check("from helper import home\n" + TRAIN, name=name)
    assert code == 0, output
    assert f"ran to the first step of Adam ({name}:" in output


def test_two_scripts_in_one_run_know_nothing_of_each_other() -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
        Path(name, "parts.py").write_text(f"name = {name!r}\n")
        Path(name, "train.py").write_text(f"from parts import name\nassert name == {name!r}\n" + TRAIN)
    result = CliRunner().invoke(app, ["run", "a/train.py", "b/train.py", "--select", "forward-pass", "--no-report"])
    assert result.exit_code == 0, result.output
    assert result.output.count("gives the first loss again to the last bit") == 2


HYDRA = """
import hydra


@hydra.main(version_base="1.1", config_path="conf", config_name="config")
def main(cfg):
    run(cfg)


def run(args):
LOOP

if __name__ == "__main__":
    main()
"""


def test_hydra_mains_take_overrides_and_their_output_folder_is_told() -> None:
    Path("conf").mkdir()
    Path("conf/config.yaml").write_text("lr: 0.01\n")
    text = TRAIN[: TRAIN.index("def main")] + HYDRA.replace("LOOP", LOOP)
    code, output = check(
        text.replace("    for epoch", "    assert args.lr == 0.5\n    for epoch"), arguments=("lr=0.5",)
    )
    assert code == 0, output
    assert re.search(r"ran to the first step of Adam \(train\.py:\d+\)", output)
    assert "it wrote before its first step: outputs\n" in output
    assert not list(Path().rglob("*.pt"))
    code, output = check(text, arguments=("rate=0.5",))
    assert code == 2
    assert "Could not override 'rate'" in output


LAYOUTS = {
    # name: (the file, whether it is run as a script)
    "A: parts at module level, training guarded": (
        "import torch\nfrom torch import nn\nmodel = nn.Linear(2, 1)\ntrain_loader = []\n"
        "if __name__ == '__main__':\n    model(1).backward()\n", False,
    ),
    "B: all at module level": ("model = 1\nloader = []\nfor x in loader:\n    model(x).backward()\n", True),
    "C: all under the guard": ("if __name__ == '__main__':\n    model = 1\n    model(1).backward()\n", True),
    "D: main()": (TRAIN, True),
    "D: main, not guarded": ("def main():\n    f().backward()\n\nmain()\n", True),
    "D: main, handed over": ("import fire\n\ndef main():\n    f().backward()\n\nfire.Fire(main)\n", True),
    "E: a function of a library": ("def train(model):\n    f(model).backward()\n", False),
    "F: a class, with a guard": (
        "class Solver:\n    def run(self):\n        self.f().backward()\n\nif __name__ == '__main__':\n    Solver().run()\n", True
    ),
    "child processes": (around("import multiprocessing\nmultiprocessing.Process(target=main).start()"), True),
    "training out of sight": ("from engine import start\n\nif __name__ == '__main__':\n    start()\n", True),
    "a recipe": ("import nncheck\nfrom train import build\nsetup = nncheck.Recipe(model=build())\nprint(1)\n", False),
    "parts that only have odd names": ("import torch.nn as nn\nprint('x')\nmine = nn.Linear(2, 1)\n", False),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_which_files_are_scripts(name: str) -> None:
    text, script = LAYOUTS[name]
    Path("some.py").write_text(text)
    assert trains_as_script(read(Path("some.py"))) is script


def test_no_file_that_trains_is_imported_by_accident() -> None:
    code, output = check(TRAIN.replace('if __name__ == "__main__":\n    main()', "main()"), "--no-capture")
    assert code == 2
    assert "trains when it is imported" in output
    assert files() == []


def test_a_configuration_lists_a_script_with_its_arguments() -> None:
    text = with_lines(SEED, "import sys\nassert sys.argv[1:] in (['--lr', '0.1'], ['--lr', '0.05']), sys.argv")
    Path("train.py").write_text(text)
    Path("nncheck.toml").write_text('targets = ["train.py -- --lr 0.1", "train.py -- --lr 0.05"]\n')
    done = CliRunner().invoke(app, ["run", "--no-report", "--select", "forward-pass", "--json", "r.json"])
    assert done.exit_code == 0, done.output
    assert [line for line in done.output.splitlines() if "train.py -- --lr 0.05" in line]
