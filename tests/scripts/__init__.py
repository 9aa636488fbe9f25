"""Training scripts as people write them, to be run as they stand, each with sick variants of its loop.

A script lies in `files/` and is whole and healthy: `python files/NAME.py ARGS` trains it. `script(...)` says how it is started
and which single edits of its text plant a fault: `fault("zero-grad", old="optimizer.zero_grad()\\n", new="")`. The ids are the
checks that name the fault rightly, the most fitting one first.

`scripts/score.py` runs `nncheck run FILE -- ARGS` on each of them, healthy and with every fault.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One edit of a script that plants a fault: `old`, which stands there exactly once, becomes `new`.

    expected: checks that name the fault rightly. row: its class of faults. unseen: why no honest measurement can tell it.
    """

    name: str
    expected: tuple[str, ...]
    old: str
    new: str
    row: str
    unseen: str = ""

    def planted(self, text: str) -> str:
        """The script with the fault in it. Raises ValueError unless `old` stands in it exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its old text stands {text.count(self.old)} times in the script")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class ScriptCase:
    """A script, its own arguments, and its faults.

    style: what is particular about how it is written. needs: packages it imports besides torch and numpy.
    beside: files of `files/` that it imports or reads. exact: whether its first batch's loss can be had again to the last bit.
    """

    name: str
    style: str
    arguments: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    exact: bool = True
    faults: tuple[Fault, ...] = field(default_factory=tuple)

    @property
    def path(self) -> Path:
        """The healthy script: `NAME.py`, or `NAME.ipynb` for a notebook."""
        plain = FILES / f"{self.name}.py"
        return plain if plain.is_file() else FILES / f"{self.name}.ipynb"


_SCRIPTS: dict[str, ScriptCase] = {}


def fault(name: str, *expected: str, old: str, new: str, row: str, unseen: str = "") -> Fault:
    """One edit that plants a fault which `expected` should name."""
    return Fault(name=name, expected=expected, old=old, new=new, row=row, unseen=unseen)


def script(
    name: str,
    *faults: Fault,
    style: str,
    arguments: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
    exact: bool = True,
) -> None:
    """Register `files/NAME.py` (or `.ipynb`) and its faults."""
    if name in _SCRIPTS:
        raise ValueError(f"two scripts are called {name}")
    case = ScriptCase(
        name=name, style=style, arguments=arguments, needs=needs, beside=beside, exact=exact, faults=faults
    )
    text = case.path.read_text(encoding="utf-8")
    for one in faults:
        one.planted(text)
    _SCRIPTS[name] = case


def scripts() -> tuple[ScriptCase, ...]:
    """Every script, by name."""
    for module in pkgutil.iter_modules(__path__):
        if module.name != "files" and not module.name.startswith("test_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return tuple(_SCRIPTS[n] for n in sorted(_SCRIPTS))
