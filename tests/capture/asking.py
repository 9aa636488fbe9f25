"""Run a script's text as `nncheck run` would, in this process, and ask checks about what was found in it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from nncheck.lab.snapshot import seed_everything
from nncheck.registry import select as select_ids
from nncheck.runner import run_target
from nncheck.target import use_target
from nncheck.target.assemble import assemble
from nncheck.target.discovery import Found
from nncheck.target.loading import isolated
from nncheck.verdict import TargetResult


@dataclass(frozen=True)
class Asked:
    """A script's recipes with what the checks said of each, and the files that it left behind."""

    found: tuple[Found, ...]
    results: tuple[TargetResult, ...]
    left: tuple[str, ...]

    @property
    def findings(self) -> list[str]:
        """The ids of all findings, in the order in which they are told."""
        return [id for result in self.results for id in result.findings]

    def status(self, id: str) -> str:
        """How a check ended for the first recipe."""
        return next(check.status for check in self.results[0].checks if check.id == id)

    @property
    def reproduced(self) -> bool:
        """Whether the first batch's loss came out again to the last bit, for every recipe."""
        return all(any("to the last bit" in note for note in found.notes) for found in self.found)


def ask(text: str, folder: Path, *arguments: str, checks: tuple[str, ...] = ()) -> Asked:
    """Write the script into the folder, run it there to its first step, and ask these checks (none: all) about it."""
    path = folder / "train.py"
    path.write_text(text, encoding="utf-8")
    everything: list[Found] = []
    results: list[TargetResult] = []

    def use(found: tuple[Found, ...]) -> None:
        everything.extend(found)
        for part in found:
            recipe, name = part.recipe, part.label or "train.py"
            setup = assemble(recipe, seed=0, device=None, origins=part.origins, names=part.names, notes=part.notes)
            device = torch.device("cpu")
            selected = select_ids(checks, ())
            results.append(run_target(name, setup, selected=selected, seed=0, device=device, deadline=float("inf")))

    with _inside(folder), isolated(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library about the script's options
        seed_everything(0)
        use_target(str(path), use, capture=True, arguments=arguments, cpu=True)
    left = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if "__pycache__" not in p.parts)
    return Asked(found=tuple(everything), results=tuple(results), left=tuple(left))


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield
