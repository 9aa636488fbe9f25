"""Whether importing a file would train is read from its text; files that only could train are imported."""

from pathlib import Path

import pytest

from nncheck.target.reading import read, training_on_import

LOOP = "for x, y in loader:\n    loss = f(model(x), y)\n    loss.backward()\n    optimizer.step()\n"
IN_A_FUNCTION = "def fit():\n    for x in loader:\n        model(x).sum().backward()\n"

TRAINS = {
    "at module level": LOOP,
    "inside a branch": "if True:\n    with open('log') as log:\n        " + LOOP.replace("\n", "\n        "),
    "through a function": IN_A_FUNCTION + "\n\nfit()\n",
    "through two functions": IN_A_FUNCTION + "\n\ndef main():\n    return fit()\n\n\nmain()\n",
    "through a decorated main": "import hydra\n\n\n" + IN_A_FUNCTION + "\n\n@hydra.main()\ndef main(cfg):\n    fit()\n\n\nmain()\n",
    "through a method": "class Solver:\n    def train(self):\n        self.step()\n\n    def step(self):\n        f().backward()\n\n\nsolver = Solver()\nsolver.train()\n",  # noqa: E501
    "through a constructor": "class Run:\n    def __init__(self):\n        f().backward()\n\n\nRun()\n",
    "a Trainer of a framework": "import lightning as L\n\ntrainer = L.Trainer(max_epochs=3)\ntrainer.fit(model, loader)\n",
    "a Trainer without a name": "from transformers import Trainer\n\nTrainer(model=model).train()\n",
    "accelerate": "for x in loader:\n    accelerator.backward(model(x))\n",
    "in the other branch of the guard": "if __name__ == '__main__':\n    pass\nelse:\n    " + LOOP.replace("\n", "\n    ") + "\n",
    "from a file beside it": "from engine import run\n\nrun(3)\n",
    "by a name of a file beside it": "import engine\n\nengine.run(3)\n",
    "a file beside it when imported": "import script\n",
}  # fmt: skip

DOES_NOT = {
    "under the guard": "if __name__ == '__main__':\n    " + LOOP.replace("\n", "\n    ") + "\n",
    "under the guard turned round": "if '__main__' == __name__ and True:\n    " + LOOP.replace("\n", "\n    ") + "\n",
    "in functions nobody calls": IN_A_FUNCTION + "\n\ndef main():\n    fit()\n",
    "called under the guard": IN_A_FUNCTION + "\n\nif __name__ == '__main__':\n    fit()\n",
    "a scaler is fitted": "scaler = StandardScaler().fit(x)\npca.fit(x)\n",
    "train mode": "model = Net()\nmodel.train()\nmodel.train(True)\n",
    "a class with a train method": "class Net(nn.Module):\n    def train(self, mode=True):\n        return super().train(mode)\n\n\nmodel = Net()\nmodel.train()\n",  # noqa: E501
    "a backward of its own": "class Cube(torch.autograd.Function):\n    @staticmethod\n    def backward(ctx, grad):\n        return grad\n",  # noqa: E501
    "a lambda": "step = lambda loss: loss.backward()\n",
    "a partial": IN_A_FUNCTION + "from functools import partial\n\njob = partial(fit)\n",
    "a helper from a file beside it": "from engine import helper\n\nhelper()\n",
    "itself again": "from here import model\n",
    "a step without a gradient": "optimizer.step()\nscheduler.step()\n",
}


@pytest.fixture(autouse=True)
def _beside(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text("def helper():\n    pass\n\n\ndef run(n):\n    f().backward()\n")
    (tmp_path / "script.py").write_text(LOOP)


@pytest.mark.parametrize("name", TRAINS)
def test_training_on_import_is_seen(name: str, tmp_path: Path) -> None:
    path = tmp_path / "here.py"
    path.write_text(TRAINS[name])
    steps = training_on_import(read(path))
    assert steps
    line = steps[-1].file.read_text().splitlines()[steps[-1].line - 1]
    assert any(word in line for word in (".backward(", ".fit(", ".train()"))


@pytest.mark.parametrize("name", DOES_NOT)
def test_what_does_not_train_on_import_is_imported(name: str, tmp_path: Path) -> None:
    path = tmp_path / "here.py"
    path.write_text(DOES_NOT[name])
    assert training_on_import(read(path)) == ()


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "here.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nname = 'été'\n".encode("latin-1"))
    assert read(path).bound == {"name": 2}
