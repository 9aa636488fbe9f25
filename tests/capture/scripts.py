"""A small training script, to be varied, and how it is run."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from nncheck.cli import app

TRAIN = """
import argparse
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    args = parser.parse_args()
    torch.manual_seed(0)
    x = torch.randn(96, 8)
    y = (x.sum(1) > 0).long()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(2):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
        torch.save(model.state_dict(), "checkpoint.pt")


if __name__ == "__main__":
    main()
"""


def with_lines(before: str, lines: str) -> str:
    """The script with lines put in before a line of `main`."""
    put = "".join(f"    {line}\n" for line in lines.splitlines())
    at = TRAIN.index(f"    {before}")
    return TRAIN[:at] + put + TRAIN[at:]


def around(lines: str) -> str:
    """The script with other lines under its guard; `main()` runs it."""
    return TRAIN.replace("\n    main()\n", "".join(f"\n    {line}" for line in lines.splitlines()) + "\n")


def check(text: str, *options: str, arguments: tuple[str, ...] = (), name: str = "train.py") -> tuple[int, str]:
    """Write a script into the working directory and run the first check on it: exit code and everything said."""
    Path(name).write_text(text, encoding="utf-8")
    after = ("--", *arguments) if arguments else ()
    run = ["run", name, "--select", "forward-pass", "--no-report", "--budget", "60"]
    result = CliRunner().invoke(app, [*run, *options, *after])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output or "it printed last" in result.output, result.output
    return result.exit_code, result.output


def files() -> list[str]:
    """What lies in the working directory besides the script."""
    return sorted(str(path) for path in Path().rglob("*") if path.name not in ("train.py", "__pycache__"))
