"""`Trainer.fit` of Lightning, under both of its names."""

from __future__ import annotations

from pathlib import Path

import pytest

from nncheck.errors import TargetError
from tests.capture.asking import ask
from tests.capture.loop_script import edited

SCRIPT = """
import argparse
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--clip", type=float)
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--fast", action="store_true")
parser.add_argument("--steps", type=int, default=-1)
parser.add_argument("--overfit", type=float, default=0.0)
args = parser.parse_args()


class Blobs(pl.LightningDataModule):
    def setup(self, stage):
        generator = torch.Generator().manual_seed(5)
        y = torch.arange(600) % 3
        centers = 2 * torch.randn(3, 8, generator=generator)
        self.x, self.y = centers[y] + torch.randn(600, 8, generator=generator), y

    def loader(self, part, shuffle):
        data = TensorDataset(self.x[part], self.y[part])
        return DataLoader(data, batch_size=25, shuffle=shuffle, num_workers=args.workers)

    def train_dataloader(self):
        return self.loader(slice(0, 500), True)

    def val_dataloader(self):
        return self.loader(slice(500, 600), False)


class Shout(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        print("batch", batch_idx)
        with open("shouted.txt", "a") as file:
            file.write("batch")


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))

    def forward(self, x):
        return self.body(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        if self.logger is not None:
            self.logger.log_metrics({"again": 1.0}, step=self.global_step)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_acc", (logits.argmax(1) == y).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        updates = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=int(updates))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


if __name__ == "__main__":
    pl.seed_everything(1)
    callbacks = [ModelCheckpoint(monitor="val_loss", every_n_train_steps=1), EarlyStopping("val_loss"), Shout()]
    trainer = pl.Trainer(
        max_epochs=20 if args.steps < 0 else -1, max_steps=args.steps, accelerator="auto", callbacks=callbacks,
        accumulate_grad_batches=args.accumulate, gradient_clip_val=args.clip, fast_dev_run=args.fast,
        overfit_batches=args.overfit, log_every_n_steps=1,
    )
    trainer.fit(Net(), datamodule=Blobs())
    print(trainer.callback_metrics)
"""

STEP = (
    "forward-pass", "finite-values", "zero-grad", "optimizer-step", "gradient-accumulation", "gradient-clipping",
    "lr-schedule",
)  # fmt: skip

EVERYTHING = ("setup", "data", "init", "wiring", "learning", "resume", "loop")


def test_a_healthy_module_is_clean_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Sanity checking, loggers, checkpoints after every step and callbacks around it."""
    asked = ask(SCRIPT, tmp_path, checks=EVERYTHING)
    assert asked.reproduced
    assert asked.findings == []
    assert asked.left == ("train.py",)
    recipe = asked.found[0].recipe
    assert recipe.epochs == 20
    assert recipe.scheduler_interval == "step"
    assert type(recipe.model).__name__ == "Net"
    assert len(recipe.val_loader) == 4
    assert asked.status("zero-grad") == asked.status("lr-schedule") == "pass"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--accumulate", "4", "--clip", "1.0"),
        ("--workers", "2"),
        ("--fast",),
        ("--steps", "30"),
        ("--overfit", "4"),
    ],
)
def test_the_trainers_options_do_no_harm(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    asked = ask(SCRIPT, tmp_path, *arguments, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []
    assert asked.status("optimizer-step") == "pass"


def test_accumulated_batches_and_clipping_are_seen(tmp_path: Path) -> None:
    asked = ask(SCRIPT, tmp_path, "--accumulate", "4", "--clip", "0.5", checks=STEP)
    assert asked.status("gradient-accumulation") == asked.status("gradient-clipping") == "pass"
    # What the user's callback wrote in the three batches before the step is told and stays.
    assert asked.left == ("shouted.txt", "train.py")
    assert any("shouted.txt" in note for note in asked.found[0].notes)
    assert (tmp_path / "shouted.txt").read_text() == "batch" * 3


def test_a_trial_run_says_nothing_of_the_length_of_the_real_one(tmp_path: Path) -> None:
    assert ask(SCRIPT, tmp_path, "--fast", checks=("forward-pass",)).found[0].recipe.epochs is None


def test_the_older_name_of_the_package(tmp_path: Path) -> None:
    text = SCRIPT.replace("lightning.pytorch", "pytorch_lightning")
    asked = ask(text, tmp_path, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []


@pytest.mark.parametrize(
    ("old", "new", "id"),
    [
        ("loss = F.cross_entropy(self(x), y)", "loss = F.cross_entropy(self(x).softmax(1), y)", "double-softmax"),
        ("gradient_clip_val=args.clip", "gradient_clip_val=1e-7", "gradient-clipping"),
        ("self.parameters(), lr=3e-3", "self.body[0].parameters(), lr=3e-3", "optimizer-coverage"),
    ],
)  # fmt: skip
def test_a_fault_of_the_module_is_found(tmp_path: Path, old: str, new: str, id: str) -> None:
    assert SCRIPT.count(old) == 1
    asked = ask(SCRIPT.replace(old, new), tmp_path, checks=("forward-pass", id))
    assert asked.reproduced
    assert asked.findings == [id]


LOOP = {
    "late-seed": (
        ("    pl.seed_everything(1)\n", "    net = Net()\n    pl.seed_everything(1)\n"),
        ("trainer.fit(Net(), ", "trainer.fit(net, ")
    ),
    "optimizer-replaced": (
        ("    def configure_optimizers", "    def on_train_epoch_start(self):\n        if self.current_epoch:\n"
         "            self.trainer.strategy.setup_optimizers(self.trainer)\n\n    def configure_optimizers"),
    ),
    "scheduler-step": (('"interval": "step"', '"interval": "epoch"'),),
    "host-sync": (
        ('self.log("train_loss"', 'right = [int(p) == int(t) for p, t in zip(self(x).argmax(1), y)]\n        '
         'self.log("train_loss"'),
    ),
    "graph-retention": (
        ("        self.save_hyperparameters()\n", "        self.save_hyperparameters()\n        self.losses = []\n"),
        ('self.log("train_loss"', 'self.losses.append(loss)\n        self.log("train_loss"'),
    ),
    "validation-data": (("self.loader(slice(500, 600), False)", "self.loader(slice(0, 500), False)"),),
    "metric-definition": (("(logits.argmax(1) == y).float().mean()", "(logits.argmax(1) == y).float().sum() / 50"),),
    "train-eval-mode": (("        loss = F.cross", "        self.eval()\n        loss = F.cross"),),
}  # fmt: skip


@pytest.mark.parametrize("id", LOOP)
def test_a_fault_of_the_loop_is_found_while_the_trainer_goes_on(tmp_path: Path, id: str) -> None:
    asked = ask(edited(*LOOP[id], text=SCRIPT), tmp_path, checks=("forward-pass", id))
    assert asked.findings == [id]
    assert asked.left == ("train.py",)


def test_the_line_that_keeps_the_graphs_and_the_one_that_logs_are_shown(tmp_path: Path) -> None:
    faults = (*LOOP["graph-retention"], *LOOP["metric-definition"])
    asked = ask(edited(*faults, text=SCRIPT), tmp_path, checks=("graph-retention", "metric-definition"))
    places = {check.id: check.verdict.places[0] for check in asked.results[0].checks if check.verdict.places}
    assert places["graph-retention"].source == "self.losses.append(loss)"
    assert (places["metric-definition"].source or "").startswith('self.log("val_acc"')


@pytest.mark.parametrize("arguments", [("--accumulate", "4"), ("--steps", "30"), ("--fast",)], ids=lambda a: a[0])
def test_the_loop_is_watched_with_the_trainers_options(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    asked = ask(SCRIPT, tmp_path, *arguments, checks=("loop",))
    assert asked.findings == []
    watched = next(check.verdict for check in asked.results[0].checks if check.id == "train-eval-mode")
    assert watched.status == "pass"
    assert watched.numbers["trained_in_train_mode"] >= (1 if "--fast" in arguments else 20)
    assert watched.numbers["validated_in_eval_mode"] >= 1


MANUAL = """
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Pair(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.first = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))
        self.second = nn.Linear(4, 1)

    def training_step(self, batch):
        first, second = self.optimizers()
        x, y = batch
        self.toggle_optimizer(first)
        first.zero_grad()
        self.manual_backward(F.mse_loss(self.first(x), x))
        first.step()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        second.zero_grad()
        self.manual_backward(F.mse_loss(self.second(self.first(x).detach()), y))
        second.step()
        self.untoggle_optimizer(second)

    def configure_optimizers(self):
        return [torch.optim.SGD(self.first.parameters(), lr=0.1), torch.optim.Adam(self.second.parameters(), lr=1e-2)], []


L.seed_everything(0)
x = torch.randn(400, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=20, shuffle=True)
L.Trainer(max_epochs=20, logger=False, enable_checkpointing=False).fit(Pair(), loader)
"""


def test_each_optimizer_of_a_step_by_hand_is_judged(tmp_path: Path) -> None:
    asked = ask(MANUAL, tmp_path, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []
    assert [type(found.recipe.optimizer).__name__ for found in asked.found] == ["SGD", "Adam"]
    assert [type(found.recipe.model).__name__ for found in asked.found] == ["Sequential", "Linear"]
    assert asked.status("zero-grad") == "pass"


def test_a_step_by_hand_that_clears_no_gradients(tmp_path: Path) -> None:
    asked = ask(MANUAL.replace("        first.zero_grad()\n", ""), tmp_path, checks=STEP)
    assert asked.findings[0] == "zero-grad"


def test_several_loaders_at_once(tmp_path: Path) -> None:
    text = SCRIPT.replace(
        "return self.loader(slice(0, 500), True)",
        'return {"a": self.loader(slice(0, 250), True), "b": self.loader(slice(250, 500), True)}',
    )
    text = text.replace(
        "x, y = batch\n        loss", 'x, y = (torch.cat(parts) for parts in zip(batch["a"], batch["b"]))\n        loss'
    )
    asked = ask(text, tmp_path, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []
    assert set(next(iter(asked.found[0].recipe.train_loader))) == {"a", "b"}


STREAM = """
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __iter__(self):
        for _ in range(1000):
            x = torch.randn(4)
            yield x, x.sum().reshape(1)


class Noisy(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
        self.unsure = SOME

    def on_after_batch_transfer(self, batch, index):
        x, y = batch
        return (x + 0.1 * torch.randn_like(x), y) if self.training else batch

    def training_step(self, batch, index):
        x, y = batch
        return F.mse_loss(self.net(x + next(self.unsure)), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


L.seed_everything(0)
L.Trainer(max_epochs=10, accelerator="cpu").fit(Noisy(), DataLoader(Stream(), batch_size=20))
"""


def test_a_stream_that_is_fetched_one_batch_ahead_and_changed_on_its_way(tmp_path: Path) -> None:
    asked = ask(STREAM.replace("SOME", "iter(lambda: 0, 1)"), tmp_path, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []


def test_a_step_that_is_another_every_time_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="could not be asked again") as told:
        ask(STREAM.replace("SOME", "iter(range(1000))"), tmp_path, checks=STEP)
    assert "Lightning's own step" in told.value.detail
    assert told.value.places[0].source == "L.Trainer(" + STREAM.strip().splitlines()[-1].partition("(")[2]
