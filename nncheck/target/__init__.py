"""Targets: from `model.py`, `model.py:NAME`, `package.module` or a training script to recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nncheck.errors import TargetError
from nncheck.target.discovery import Found, discover
from nncheck.target.loading import import_target, parse_target
from nncheck.target.reading import read, trains_as_script


def load_target(text: str, flags: Mapping[str, str] | None = None) -> Found:
    """Find, read, import and understand a target; to be called inside `loading.isolated()`.

    `flags` name parts: `{"model": "net"}`. Raises TargetError, pointing into the user's file, if any of that fails.
    """
    target = parse_target(text)
    reading = read(target.path)
    module = import_target(target, reading)
    return discover(module, reading, target, flags)


def use_target(
    text: str,
    use: Callable[[tuple[Found, ...]], None],
    *,
    flags: Mapping[str, str] | None = None,
    capture: bool | None = None,
    arguments: tuple[str, ...] = (),
    cpu: bool = False,
) -> None:
    """Call `use` with what a target holds: one recipe, or one for each optimizer of a training script.

    A script is run for it, with `arguments`, and `use` is called where it stands at its first optimizer step; a file is imported.
    `capture` forces or forbids the one or the other; None: what the file is written for. Raises TargetError as `load_target`.
    """
    target = parse_target(text)
    notebook = target.path.suffix == ".ipynb"
    if notebook and capture is False:
        raise TargetError(f"{text} is a notebook: its cells are run, and --no-capture forbids that")
    if capture is None:
        capture = notebook or (target.name is None and not flags and trains_as_script(read(target.path)))
    if not capture:
        use((load_target(text, flags),))
        return
    if target.name is not None or flags:
        given = (
            f"{text} names {target.name!r}" if target.name is not None else f"--{next(iter(flags or ()))} names a part"
        )
        raise TargetError(
            f"{given}, but a script's parts are found from what it does", help=f"nncheck run {target.path.name} -- ..."
        )
    from nncheck.capture.load import capture as run_script

    run_script(target, arguments, use, cpu=cpu)


__all__ = ["Found", "load_target", "use_target"]
