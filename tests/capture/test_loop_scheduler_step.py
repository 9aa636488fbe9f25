"""scheduler-step, through scripts that are run: each is the healthy one with a single edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.asking import ask
from tests.capture.loop_script import TRAIN, asked, edited, loop_findings

ID = "scheduler-step"
STEP, UPDATE = "    scheduler.step()\n", "        optimizer.step()\n"
PER_BATCH = (UPDATE, f"{UPDATE}    {STEP}")
SCHEDULE = "StepLR(optimizer, step_size=4, gamma=0.5)"
BROKEN = {
    "never": edited((STEP, "")),
    "only behind the loop": edited((STEP, "")) + "scheduler.step()\n",
    "after every batch, counted in epochs": edited((STEP, ""), PER_BATCH),
    "once an epoch, counted in batches": edited(
        (SCHEDULE, "CosineAnnealingLR(optimizer, T_max=8 * len(train_loader))")
    ),
    "from two places": edited(PER_BATCH, (SCHEDULE, "ExponentialLR(optimizer, gamma=0.99)")),
    "before the optimizer": edited((STEP, ""), ("    model.train()\n", f"{STEP}    model.train()\n")),
}
NEAR = {
    "from the fifth epoch on": edited((STEP, "    if epoch >= 5:\n        scheduler.step()\n")),
    "after every batch, counted in batches": edited(
        (STEP, ""), PER_BATCH, (SCHEDULE, "OneCycleLR(optimizer, max_lr=0.01, total_steps=8 * len(train_loader))")
    ),
    "a plateau, fed once an epoch": edited(
        (SCHEDULE, "ReduceLROnPlateau(optimizer, patience=2)"), (STEP, "    scheduler.step(loss.item())\n")
    ),
    "two schedules in one": edited(
        (SCHEDULE, "SequentialLR(optimizer, [torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=2), "
         "torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)], milestones=[2])"),
    ),
    "the rate is set by hand instead": edited((STEP, "    optimizer.param_groups[0]['lr'] *= 0.9\n")),
    "set to the epoch before it begins": edited(
        (STEP, ""), ("    model.train()\n", "    scheduler.step(epoch)\n    model.train()\n"),
        (SCHEDULE, "CosineAnnealingWarmRestarts(optimizer, T_0=4)"),
    ),
    "no schedule": edited((STEP, ""), (f"scheduler = torch.optim.lr_scheduler.{SCHEDULE}\n", "")),
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_schedule_out_of_step_is_the_first_finding(text: str, tmp_path: Path) -> None:
    assert ask(text, tmp_path, checks=("loop", "lr-schedule")).findings[:1] == [ID]


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_is_no_finding(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == ("skip" if name == "no schedule" else "pass")


def test_what_it_advises_helps(tmp_path: Path) -> None:
    fixed = edited(
        (UPDATE + "    " + STEP, UPDATE),
        ("    model.eval()\n", f"{STEP}    model.eval()\n"),
        text=edited((STEP, ""), PER_BATCH),
    )
    assert fixed == TRAIN
    assert loop_findings(fixed, tmp_path) == []
