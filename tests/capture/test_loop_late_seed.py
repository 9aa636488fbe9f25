"""late-seed, through scripts that are run: each is the healthy one with a single edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import asked, edited, loop_findings

ID = "late-seed"
SEED = "torch.manual_seed(0)\n"
WRITES = "with open('log.txt', 'a') as log:\n    print('begun', file=log)\n"
BROKEN = {
    "after the model": edited(
        (SEED, ""), ("optimizer = ", f"{SEED}optimizer = "), ("epochs = 8\n", f"epochs = 8\n{WRITES}")
    ),
    "NumPy's, after the data": edited(
        ("import torch\n", "import torch\nimport numpy as np\n"),
        ("x = torch.randn(160, 10)\n", "x = torch.from_numpy(np.random.randn(160, 10)).float()\nnp.random.seed(0)\n"),
    ),
}
NEAR = {
    "never": edited((SEED, "")),
    "once more later": edited(("optimizer = ", f"{SEED}optimizer = ")),
    "anew in every epoch": edited((SEED, ""), ("    model.train()\n", "    torch.manual_seed(epoch)\n    model.train()\n")),
    "for a while only": edited(
        (SEED, ""), ("optimizer = ", f"with torch.random.fork_rng():\n    {SEED}optimizer = ")
    ),
    "after a draw that does not matter": edited((SEED, f"torch.rand(3)\n{SEED}")),
    "the split has a generator of its own": edited(
        (SEED, f"order = torch.randperm(160, generator=torch.Generator().manual_seed(1))\n{SEED}")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_late_seed_is_the_first_finding(name: str, tmp_path: Path) -> None:
    assert loop_findings(BROKEN[name], tmp_path)[:1] == [ID]
    if WRITES in BROKEN[name]:  # the runs that were compared wrote nothing
        assert (tmp_path / "log.txt").read_text() == "begun\n"


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_is_no_finding(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == ("skip" if name == "never" else "pass")
