"""Loops that are written out, with what accelerate puts around their model, optimizer, loader and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

from tests.capture.asking import ask

SCRIPT = """
import argparse
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--precision", default="no")
args = parser.parse_args()


def blobs(size, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (size,), generator=generator)
    centers = 2 * torch.randn(3, 8, generator=torch.Generator().manual_seed(9))
    return TensorDataset(centers[y] + torch.randn(size, 8, generator=generator), y)


def main():
    set_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=args.accumulate, mixed_precision=args.precision, cpu=True)
    train_loader = DataLoader(blobs(600, 1), batch_size=25, shuffle=True, num_workers=args.workers)
    val_loader = DataLoader(blobs(100, 2), batch_size=25, num_workers=args.workers)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    epochs = 8
    updates = epochs * len(train_loader) // args.accumulate
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=updates)
    criterion = nn.CrossEntropyLoss()
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )
    for epoch in range(epochs):
        model.train()
        for inputs, targets in train_loader:
            with accelerator.accumulate(model):
                loss = criterion(model(inputs), targets)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        model.eval()
        right = seen = 0
        for inputs, targets in val_loader:
            with torch.no_grad():
                outputs = model(inputs).argmax(-1)
            outputs, targets = accelerator.gather_for_metrics((outputs, targets))
            right += (outputs == targets).sum().item()
            seen += len(targets)
        accelerator.print(epoch, right / seen)
    accelerator.save_state("state")


if __name__ == "__main__":
    main()
"""


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """An Accelerator's settings hold for a whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


STEP = (
    "forward-pass", "finite-values", "zero-grad", "optimizer-step", "gradient-accumulation", "gradient-clipping",
    "lr-schedule",
)  # fmt: skip


def test_a_healthy_loop_is_clean(tmp_path: Path) -> None:
    asked = ask(SCRIPT, tmp_path, checks=("setup", "data", "init", "wiring", "learning", "resume"))
    assert asked.reproduced
    assert asked.findings == []
    assert asked.left == ("train.py",)
    recipe = asked.found[0].recipe
    assert type(recipe.optimizer).__name__ == "AdamW"
    assert type(recipe.scheduler).__name__ == "OneCycleLR"
    assert recipe.scheduler_interval == "step"
    assert len(recipe.val_loader.dataset) == 100
    assert asked.status("zero-grad") == asked.status("gradient-clipping") == "pass"


@pytest.mark.parametrize(
    "arguments", [("--accumulate", "4"), ("--workers", "2"), ("--precision", "bf16")], ids=lambda a: a[0]
)
def test_what_accelerate_does_around_the_loop_is_no_finding(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    asked = ask(SCRIPT, tmp_path, *arguments, checks=STEP)
    assert asked.reproduced
    assert asked.findings == []
    assert asked.status("optimizer-step") == "pass"


def test_accumulated_batches_are_seen(tmp_path: Path) -> None:
    assert ask(SCRIPT, tmp_path, "--accumulate", "4", checks=STEP).status("gradient-accumulation") == "pass"


def test_a_loop_that_clears_no_gradients(tmp_path: Path) -> None:
    text = SCRIPT.replace("                optimizer.zero_grad()\n", "")
    assert ask(text, tmp_path, checks=STEP).findings[0] == "zero-grad"


def test_a_loss_that_is_not_divided_by_the_batches_it_accumulates(tmp_path: Path) -> None:
    """The Accelerator is not told that the loop accumulates, so `accelerator.backward` does not divide."""
    text = SCRIPT.replace("gradient_accumulation_steps=args.accumulate, ", "")
    text = text.replace(
        "for inputs, targets in train_loader:", "for index, (inputs, targets) in enumerate(train_loader):"
    )
    text = text.replace("with accelerator.accumulate(model):", "if True:")
    text = text.replace(
        "if accelerator.sync_gradients:",
        "if (index + 1) % args.accumulate:\n                    continue\n                if True:",
    )
    asked = ask(text, tmp_path, "--accumulate", "4", checks=STEP)
    assert asked.reproduced
    assert asked.findings == ["gradient-accumulation"]
