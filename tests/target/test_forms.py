"""Every form of a target and every name of a part, as a user writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nncheck.errors import TargetError
from nncheck.lab.objective import Objective
from nncheck.recipe import Setup
from nncheck.target import load_target
from nncheck.target.assemble import assemble
from nncheck.target.loading import isolated

HEAD = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(48, 8)
y = (x @ torch.randn(8, 4)).argmax(1)
data = TensorDataset(x, y)
"""
MODEL = "model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))\n"
LOADER = "train_loader = DataLoader(data, batch_size=16, shuffle=True)\n"
LOSS = "loss_fn = nn.CrossEntropyLoss()\n"
OPTIMIZER = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with isolated():
        yield


def setup_of(body: str, *, name: str = "setup_file.py", target: str | None = None, **flags: str) -> Setup:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(HEAD + body)
    found = load_target(target or name, flags)
    setup = assemble(found.recipe, names=found.names, origins=found.origins, notes=found.notes)
    batch = next(iter(setup.train_loader))
    outcome = Objective(setup, setup.model)(batch)
    assert outcome.loss.requires_grad
    return setup


@pytest.mark.parametrize("model", ["model", "net", "network", "module", "anything"])
@pytest.mark.parametrize("loader", ["trainloader", "train_dl", "data_loader_train", "dataloader", "dl", "whatever"])
@pytest.mark.parametrize("loss", ["criterion", "loss_func", "loss_function", "loss", "my_measure"])
def test_usual_names_and_only_candidates(model: str, loader: str, loss: str) -> None:
    setup = setup_of(
        MODEL.replace("model", model)
        + LOADER.replace("train_loader", loader)
        + LOSS.replace("loss_fn", loss)
        + f"opt = torch.optim.SGD({model}.parameters(), lr=0.1)\n"
    )
    assert setup.bound[0] == f"model = {model} (Sequential, 212 parameters)"
    assert setup.bound[1] == f"loss = {loss} (CrossEntropyLoss)"
    assert setup.bound[2] == f"data = {loader} (TensorDataset, batch 16)"
    assert setup.origins["optimizer"].source == f"opt = torch.optim.SGD({model}.parameters(), lr=0.1)"
    assert not setup.default_optimizer


@pytest.mark.parametrize("prefix", ["build_", "make_", "get_", "create_"])
def test_builders_are_called_with_the_parts_they_name(prefix: str) -> None:
    setup = setup_of(f"""
def {prefix}model(width=16, device="cpu"):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4)).to(device)

def {prefix}train_loader(batch_size=16):
    return DataLoader(data, batch_size=batch_size)

def {prefix}loss_fn():
    return nn.CrossEntropyLoss()

def {prefix}optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)

def {prefix}scheduler(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 3)

num_epochs = 12
scheduler_interval = "epoch"
human_error = 0.02
""")
    assert setup.bound[0] == f"model = {prefix}model() (Sequential, 212 parameters)"
    assert setup.scheduler.optimizer is setup.optimizer
    assert (setup.epochs, setup.scheduler_interval, setup.target_error) == (12, "epoch", 0.02)


def test_other_ways_to_write_a_part() -> None:
    """A class as the model, a partial optimizer, a function as the loss, both loaders from one builder."""
    setup = setup_of("""
from functools import partial

class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return torch.relu(self.layer(x))

class Classifier(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(depth)), nn.Linear(8, 4))

    def forward(self, x):
        return self.blocks(x)

def get_dataloaders(batch_size=8):
    return DataLoader(data, batch_size), DataLoader(data, 2 * batch_size), DataLoader(data, 48)

criterion = F.cross_entropy
optimizer = partial(torch.optim.AdamW, lr=1e-3)
""")
    assert type(setup.model).__name__ == "Classifier"
    assert isinstance(setup.optimizer, torch.optim.AdamW)
    assert (setup.train_loader.batch_size, setup.val_loader.batch_size) == (8, 16)  # type: ignore[attr-defined, union-attr]
    assert any("3 loaders" in note for note in setup.notes)


def test_what_is_assumed_is_told() -> None:
    setup = setup_of(MODEL + LOSS + "train_dataset = data\ntest_loader = DataLoader(data)\nnet = nn.Linear(8, 4)\n")
    said = "\n".join(setup.notes)
    assert "train_dataset is wrapped in DataLoader(batch_size=32, shuffle=True)" in said
    assert "no optimizer given: AdamW(lr=0.0003) is used" in said
    assert "the test loader stands in" in said
    assert "net (Linear) is a model too; `--model net` checks that one" in said


def test_names_that_mean_something_else_are_passed_over() -> None:
    Path("settings.py").write_text("loss = 0.25\ndata_loader = 'path'\n")
    setup = setup_of(
        "from torch import optim\nfrom torch.optim import lr_scheduler\nfrom settings import loss, data_loader\n"
        "import argparse\nopt = argparse.Namespace(lr=0.1)\nmodule = 'resnet'\nnetwork = None\n" + MODEL + LOADER + LOSS
    )
    assert setup.default_optimizer
    assert setup.scheduler is None


@pytest.mark.parametrize(
    "step",
    [
        "def training_step(model, batch):",
        "def training_step(model, batch, batch_idx):",
        "def training_step(batch):",
        "def training_step(batch, model):",
        "def compute_loss(net, data):",
        "def train_step(model, batch):",
    ],
)
def test_steps_take_their_arguments_by_name(step: str) -> None:
    batch = "data" if "data)" in step else "batch"
    net = "net" if "net," in step else "model"
    setup = setup_of(MODEL + LOADER + f"{step}\n    a, b = {batch}\n    return F.cross_entropy({net}(a), b)\n")
    assert setup.training_step is not None
    assert setup.train_step is None


def test_a_step_that_does_everything_is_no_loss() -> None:
    setup = setup_of(
        MODEL
        + LOADER
        + LOSS
        + OPTIMIZER
        + "def train_step(model, batch):\n    optimizer.zero_grad()\n    a, b = batch\n"
        "    loss = loss_fn(model(a), b)\n    loss.backward()\n    optimizer.step()\n    return loss\n"
    )
    assert setup.train_step is not None
    assert setup.training_step is None


def test_a_helper_with_other_arguments_is_no_step() -> None:
    setup = setup_of(MODEL + LOADER + LOSS + "def train_step(model, x, y, opt):\n    raise SystemExit\n")
    assert setup.train_step is None
    assert setup.training_step is None


@pytest.mark.parametrize(
    "batches",
    [
        "[(x[:16], y[:16])]",
        "[[x[:16], y[:16]]]",
        "[{'input': x[:16], 'labels': y[:16]}]",
    ],
)
def test_batches_with_a_loss_function(batches: str) -> None:
    model = "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(8, 4)\n\n    def forward(self, input):\n        return self.layer(input)\n\n\nmodel = Net()\n"  # noqa: E501
    setup_of(model + f"loader = {batches}\n" + LOSS)


@pytest.mark.parametrize(
    ("batches", "forward"),
    [
        ("[x[:16]]", "def forward(self, x): return self.layer(x).pow(2).mean()"),
        ("[(x[:16],)]", "def forward(self, x): return {'loss': self.layer(x).pow(2).mean()}"),
        ("[(x[:16], y[:16])]", "def forward(self, x, y): return self.layer(x), F.cross_entropy(self.layer(x), y)"),
        ("[(x[:16], y[:16])]", "def forward(self, x, y=None): return F.cross_entropy(self.layer(x), y), self.layer(x)"),
        ("[{'x': x[:16], 'labels': y[:16]}]", "def forward(self, x, labels): return Out(F.cross_entropy(self.layer(x), labels))"),
    ],
)  # fmt: skip
def test_models_that_return_their_loss(batches: str, forward: str) -> None:
    setup_of(
        "class Out:\n    def __init__(self, loss): self.loss = loss\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(8, 4)\n"
        f"    {forward}\nmodel = Net()\ntrain_loader = {batches}\n"
    )


def test_an_autoencoder_needs_no_target() -> None:
    setup_of("model = nn.Linear(8, 8)\ntrain_loader = [x[:16], x[16:32]]\nloss_fn = nn.MSELoss()\n")


def test_a_name_in_a_file() -> None:
    body = (
        "import nncheck\n\nclass Config:\n    pass\n\n\n"
        + MODEL
        + LOADER
        + LOSS
        + "def recipe():\n    return nncheck.Recipe(model=model, train_loader=train_loader, loss_fn=nn.CrossEntropyLoss())\n\n\n"
        "def other():\n    return nn.Linear(8, 4)\n\n\nConfig.setup = recipe()\n"
    )
    setup = setup_of(body, target="setup_file.py:recipe")
    assert setup.bound[0] == "model = model (Sequential, 212 parameters)"
    assert setup.origins["model"].source == MODEL.strip()
    assert "return nncheck.Recipe(" in (setup.origins["loss_fn"].source or "")
    assert setup_of(body, target="setup_file.py:other").bound[0] == "model = other (Linear, 36 parameters)"
    assert type(setup_of(body, target="setup_file.py:Config.setup").model).__name__ == "Sequential"


def test_modules_packages_and_relative_imports(tmp_path: Path) -> None:
    (tmp_path / "proj_pkg" / "inner").mkdir(parents=True)
    (tmp_path / "proj_pkg" / "__init__.py").write_text("")
    (tmp_path / "proj_pkg" / "inner" / "__init__.py").write_text("")
    (tmp_path / "proj_pkg" / "layers.py").write_text("from torch import nn\nhead = nn.Linear(8, 4)\n")
    body = (
        "from ..layers import head\n" + LOADER + LOSS + "model = nn.Sequential(head)\nassert __name__ != '__main__'\n"
    )
    name = "proj_pkg/inner/setting.py"
    assert setup_of(body, name=name).bound[0] == "model = model (Sequential, 36 parameters)"
    assert setup_of(body, name=name, target="proj_pkg.inner.setting").origins["model"].file == name
    assert setup_of(body, name=name, target="proj_pkg.inner.setting:model").model is not None
    assert "proj_pkg.inner.setting" in sys.modules


def test_afterwards_the_modules_are_gone() -> None:
    Path("model.py").write_text(HEAD + MODEL + LOADER + LOSS)
    path = list(sys.path)
    with isolated():
        load_target("model.py")
        assert "model" in sys.modules
    assert "model" not in sys.modules
    assert sys.path == path


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
@pytest.mark.filterwarnings("ignore")
def test_a_lightning_module_brings_its_parts(package: str) -> None:
    setup = setup_of(f"""
import {package} as pl

class Lit(pl.LightningModule):
    def __init__(self, width=16):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4))

    def training_step(self, batch, batch_idx):
        a, b = batch
        loss = F.cross_entropy(self.net(a), b)
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({{"epoch": float(self.current_epoch), "batches": float(self.trainer.num_training_batches)}})
        return {{"loss": loss}}

    def train_dataloader(self):
        return DataLoader(data, batch_size=16)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        steps = self.trainer.estimated_stepping_batches
        return [optimizer], [{{"scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps), "interval": "step"}}]
""")
    assert type(setup.model).__name__ == "Lit"
    assert isinstance(setup.optimizer, torch.optim.Adam)
    assert setup.scheduler_interval == "step"
    assert setup.scheduler.total_steps == 3
    assert setup.model._trainer is None
    assert "log" not in vars(setup.model)


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_data_module_brings_its_loaders() -> None:
    setup = setup_of("""
import lightning as L

class Data(L.LightningDataModule):
    def setup(self, stage):
        self.data = data

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=16)

    def val_dataloader(self):
        return DataLoader(self.data, batch_size=48)

datamodule = Data()
model = nn.Linear(8, 4)
loss_fn = nn.CrossEntropyLoss()
""")
    assert "data = datamodule (TensorDataset, batch 16)" in setup.bound
    assert setup.val_loader.batch_size == 48  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore")
def test_a_hugging_face_model_returns_its_loss() -> None:
    setup = setup_of("""
from transformers import BertConfig, BertForSequenceClassification

config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3)
model = BertForSequenceClassification(config)
tokens = torch.randint(50, (32, 7))
samples = [{"input_ids": t, "attention_mask": torch.ones_like(t), "labels": t[0] % 3} for t in tokens]
train_dataloader = DataLoader(samples, batch_size=8, shuffle=True)
""")
    assert setup.loss_fn is None
    assert "loss = returned by the model" in setup.bound


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (MODEL + LOADER + "mse = nn.MSELoss()\nce = nn.CrossEntropyLoss()\n", "2 things by loss_fn: mse .MSELoss., ce"),
        (MODEL + LOSS + "a = DataLoader(data)\nb = DataLoader(data)\n", "2 things by train_loader: a .DataLoader., b"),
        (
            "class A(nn.Linear):\n    def __init__(self): super().__init__(8, 4)\n"
            "class B(nn.Linear):\n    def __init__(self): super().__init__(8, 4)\n" + LOADER + LOSS,
            "2 things by model: A .A., B",
        ),
    ],
)
def test_several_candidates_are_listed(body: str, message: str) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        setup_of(body)
    assert "--" in caught.value.help
    assert caught.value.places
