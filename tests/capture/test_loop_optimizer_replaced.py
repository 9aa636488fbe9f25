"""optimizer-replaced, through scripts that are run: each is the healthy one with a single edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import asked, edited, loop_findings

ID = "optimizer-replaced"
LOOP, MADE = "    model.train()\n", "optimizer = torch.optim.Adam(model.parameters(), lr=0.01)\n"
CHANGED = "epochs = 8\n"
BROKEN = {
    "anew each epoch": edited((LOOP, f"{LOOP}    {MADE}")),
    "anew each step": edited(("        optimizer.zero_grad()\n", f"        {MADE}        optimizer.zero_grad()\n")),
    "a layer replaced": edited((CHANGED, f"{CHANGED}model[4] = nn.Linear(32, 3)\n")),
    "a copy is trained": edited((CHANGED, f"{CHANGED}import copy\nmodel = copy.deepcopy(model)\n")),
    "a copy is trained, the first kept": edited((CHANGED, f"{CHANGED}import copy\nfirst, model = model, copy.deepcopy(model)\n")),
    "the model anew each epoch": edited(
        (LOOP, f"    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))\n    {MADE}{LOOP}")
    ),
}  # fmt: skip
NEAR = {
    "plain SGD has no state to lose": edited(
        (LOOP, f"{LOOP}    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"),
    ),
    "one planned new start": edited((LOOP, f"{LOOP}    if epoch == 1:\n        {MADE.replace('0.01', '0.001')}")),
    "a second stage for other layers": edited(
        (LOOP, f"{LOOP}    optimizer = torch.optim.Adam(model[2 * epoch % 4 :].parameters(), lr=0.01)\n")
    ),
    "weights set back as well": edited(
        (CHANGED, f"{CHANGED}import copy\nfirst = copy.deepcopy(model.state_dict())\n"),
        (LOOP, f"    model.load_state_dict(first)\n    {MADE}{LOOP}"),
    ),
    "a layer replaced and its parameters added": edited(
        (CHANGED, f"{CHANGED}model[4] = nn.Linear(32, 3)\noptimizer.add_param_group({{'params': model[4].parameters()}})\n")
    ),
    "a frozen backbone": edited((MADE, MADE.replace("model.parameters()", "model[4].parameters()"))),
    "two optimizers in turn": edited(
        (MADE, f"{MADE}other = torch.optim.Adam(model.parameters(), lr=0.001)\n"),
        ("        optimizer.step()\n", "        (optimizer if epoch % 2 == 0 else other).step()\n"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_replaced_is_the_first_finding(text: str, tmp_path: Path) -> None:
    assert loop_findings(text, tmp_path)[:1] == [ID]


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_is_no_finding(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == "pass"


def test_an_optimizer_made_after_the_last_change_is_right(tmp_path: Path) -> None:
    broken = BROKEN["a layer replaced"]
    fixed = edited(
        (CHANGED + "model[4] = nn.Linear(32, 3)\n", CHANGED),
        (MADE, f"model[4] = nn.Linear(32, 3)\n{MADE}"),
        text=broken,
    )
    result = asked(fixed, tmp_path, ID)
    assert result.findings == []
    assert result.status(ID) == "pass"
