"""`nncheck init`: a script is run to its first step and what was found is written down; any other file is only read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from nncheck.errors import OutOfTime, TargetError, explain
from nncheck.lab.deadline import alarm
from nncheck.process.prints import UserOutput
from nncheck.target.loading import parse_target
from nncheck.target.reading import read, trains_as_script
from nncheck.target.scaffold import scaffold

if TYPE_CHECKING:
    from nncheck.target import Found


def written_setup(
    target: str | None,
    output: Path,
    *,
    capture: bool | None,
    arguments: tuple[str, ...],
    cpu: bool,
    budget: float,
    descriptors: bool,
) -> tuple[str, list[str]]:
    """The text of the file, and what is to be said of it. Raises TargetError if the target cannot even be read."""
    if target is None:
        return scaffold(None, output), []
    path = parse_target(target).path
    notebook = path.suffix == ".ipynb"
    if capture is None:
        capture = notebook or trains_as_script(read(path))
    if not capture:
        return scaffold(target, output), []
    try:
        return _captured(target, output, arguments, cpu=cpu, budget=budget, descriptors=descriptors)
    except TargetError as error:
        why = explain(error).splitlines()
    return scaffold(None if notebook else target, output), [f"{target} was only read, for it could not be run:", *why]


def _captured(
    target: str, output: Path, arguments: tuple[str, ...], *, cpu: bool, budget: float, descriptors: bool
) -> tuple[str, list[str]]:
    from nncheck.capture.adapter import adapter
    from nncheck.lab.snapshot import seed_everything
    from nncheck.target import use_target
    from nncheck.target.loading import isolated

    texts: list[str | None] = []
    said: list[str] = []

    def use(found: tuple[Found, ...]) -> None:
        said.extend(found[0].notes)
        if len(found) > 1:
            said.append(f"written down is the first of {len(found)} optimizers: {found[0].label}")
        texts.append(adapter(found[0], what=Path(target).name, output=output.name))

    try:
        with UserOutput(descriptors=descriptors), isolated(), alarm(time.monotonic() + budget):
            seed_everything(0)
            use_target(target, use, capture=True, arguments=arguments, cpu=cpu)
    except OutOfTime:
        raise TargetError(f"the time of --budget ({budget:g} s) ran out") from None
    text = texts[0]
    if text is None:
        raise TargetError(f"the loop is not among the lines of {target}: a library runs it")
    return text, said
