"""Several optimizers in one loop: what the loop does with each is told of that one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.asking import ask
from tests.capture.loop_script import edited

GAN = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 2) * 0.1 + torch.tensor([1.0, -1.0])
loader = DataLoader(TensorDataset(x), batch_size=16, shuffle=True)
netD = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
netG = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
scheduleD = torch.optim.lr_scheduler.StepLR(optimizerD, step_size=2, gamma=0.5)
scheduleG = torch.optim.lr_scheduler.StepLR(optimizerG, step_size=2, gamma=0.5)
fixed = torch.randn(8, 4)
for epoch in range(4):
    for (real,) in loader:
        netD.zero_grad()
        out = netD(real)
        errD = F.binary_cross_entropy_with_logits(out, torch.ones_like(out))
        fake = netG(torch.randn(16, 4))
        out = netD(fake.detach())
        errD = errD + F.binary_cross_entropy_with_logits(out, torch.zeros_like(out))
        errD.backward()
        optimizerD.step()
        netG.zero_grad()
        out = netD(fake)
        errG = F.binary_cross_entropy_with_logits(out, torch.ones_like(out))
        errG.backward()
        optimizerG.step()
    scheduleD.step()
    scheduleG.step()
    with torch.no_grad():
        samples = netG(fixed)
"""

CHECKS = ("zero-grad", "loop")


def _told(text: str, folder: Path) -> dict[str, list[str]]:
    return {result.target: list(result.findings) for result in ask(text, folder, checks=CHECKS).results}


def test_gradients_of_one_pass_that_the_next_clearing_takes_are_no_fault(tmp_path: Path) -> None:
    """The generator's pass goes back through the critic too."""
    assert _told(GAN, tmp_path) == {"Adam of netD": [], "Adam of netG": []}


@pytest.mark.parametrize(
    ("old", "new", "id"),
    [
        ("    scheduleG.step()\n", "", "scheduler-step"),
        ("    with torch.no_grad():\n", "    netG.eval()\n    with torch.no_grad():\n", "train-eval-mode"),
        (
            "    for (real,)",
            "    optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))\n    for (real,)",
            "optimizer-replaced",
        ),
        ("        netG.zero_grad()\n", "", "zero-grad"),
    ],
)
def test_a_fault_with_the_second_is_told_of_the_second(tmp_path: Path, old: str, new: str, id: str) -> None:
    found = _told(edited((old, new), text=GAN), tmp_path)
    assert found["Adam of netD"] == []
    assert found["Adam of netG"][:1] == [id]
