"""From a target's text to a module that has been imported, apart from everything else that is checked in the same run."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nncheck.errors import OutOfTime, TargetError
from nncheck.observe.source import is_users, place_at, shown, user_frames, words_of
from nncheck.target.reading import Reading, read, training_on_import
from nncheck.verdict import Place

NOT_IMPORTED = (
    "run it as a script (nncheck run {file} -- ITS ARGUMENTS), or write the set-up into a file that builds model, train_loader, "
    'loss_fn and optimizer at module level and trains only under `if __name__ == "__main__":`; `nncheck init {file}` writes a start'
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target's text taken apart: a file or a dotted module, and perhaps a name in it."""

    text: str
    path: Path
    module: str | None
    name: str | None


def parse_target(text: str) -> Target:
    """Find the file a target means, without importing anything. Raises TargetError if there is none."""
    location, name = text, None
    if not Path(text).exists() and ":" in text:
        head, _, tail = text.rpartition(":")
        if all(part.isidentifier() for part in tail.split(".")):
            location, name = head, tail
        elif not tail.startswith(("/", "\\")):
            raise TargetError(
                f"{text}: {tail!r} is not a Python name", help="write FILE.py:NAME or package.module:NAME"
            )
    path = Path(location)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:
        raise TargetError(f"{text!r} is not a path that can be read: {error}") from error
    if is_file:
        if path.suffix not in (".py", ".pyw", ".ipynb"):
            raise TargetError(f"{text} is not a Python file", help="name a .py file")
        return Target(text=text, path=path.resolve(), module=None, name=name)
    looks_like_a_path = path.suffix in (".py", ".ipynb") or any(s in location for s in (os.sep, "/"))
    if is_folder and not (location.isidentifier() and (path / "__init__.py").is_file()):
        files = sorted(f.name for f in path.glob("*.py"))[:5]
        raise TargetError(
            f"{text} is a folder", help="name a file in it" + (f", such as {path / files[0]}" if files else "")
        )
    if looks_like_a_path or not all(part.isidentifier() for part in location.split(".")):
        raise TargetError(f"there is no file {location}", help=_similar(path))
    found = _module_file(location)
    if found is None:
        raise TargetError(
            f"there is no file and no module called {location!r}",
            help=_similar(path.with_suffix(".py")) or "name a .py file, or a module that `python -m` would find here",
        )
    return Target(text=text, path=found, module=location, name=name)


def _similar(path: Path) -> str:
    try:
        names = [f.name for f in path.parent.glob("*.py")]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else ""


def _module_file(dotted: str) -> Path | None:
    """The file of a module, found as `python -m` would, without running its packages."""
    first, *rest = dotted.split(".")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError, AttributeError):
        spec = None
    finally:
        if added:
            sys.path.remove(here)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder).joinpath(*rest)
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate.resolve()
    return None


@contextmanager
def isolated() -> Iterator[None]:
    """Afterwards the import path, the folder, torch's global switches and the modules of the user's files are as before.

    So two targets may each have a `data.py` of their own. No bytecode is written into the user's folders meanwhile.
    """
    import torch

    from nncheck.lab.snapshot import RandomState

    world, threads = RandomState(), torch.get_num_threads()
    path, folder, bytecode = list(sys.path), os.getcwd(), sys.dont_write_bytecode
    argv, modules, recursion = list(sys.argv), dict(sys.modules), sys.getrecursionlimit()
    sys.dont_write_bytecode = True
    try:
        with warnings.catch_warnings():
            yield
    finally:
        world.restore()
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        sys.path[:], sys.dont_write_bytecode, sys.argv[:] = path, bytecode, argv
        sys.setrecursionlimit(recursion)
        if os.path.isdir(folder):
            os.chdir(folder)
        for name, module in list(sys.modules.items()):
            if modules.get(name) is not module and _is_local(module):
                if name in modules:
                    sys.modules[name] = modules[name]
                else:
                    del sys.modules[name]


def _is_local(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_users(file)


def import_target(target: Target, reading: Reading) -> ModuleType:
    """Import a file that has been read. Raises TargetError if that would train, or if the file fails."""
    steps = training_on_import(reading)
    if steps:
        places = tuple(place_at(step.name, str(step.file), step.line) for step in steps)
        last = places[-1]
        raise TargetError(
            f"{shown(str(target.path))} trains when it is imported ({last.file}:{last.line}), so it was not imported",
            places=places,
            help=NOT_IMPORTED.format(file=target.text.partition(":")[0]),
        )
    name, root = _module_name(target)
    sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
    sys.argv[:] = [str(target.path)]
    importlib.invalidate_caches()
    from nncheck.observe.loads import noting_loads  # torch is imported no earlier than the user's file needs it

    try:
        with noting_loads():
            if "." in name or target.module is not None:
                return importlib.import_module(name)
            return _import_file(name, target.path)
    except (OutOfTime, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, and what a library derives from BaseException
        raise import_failure(error, target) from error


def _module_name(target: Target) -> tuple[str, str]:
    """Under which name a file is imported, and what must come first on the import path."""
    if target.module is not None:
        top = target.path
        parts = len(target.module.split(".")) + (target.path.name == "__init__.py")
        for _ in range(parts):
            top = top.parent
        return target.module, str(top)
    folder = target.path.parent
    if (folder / "__init__.py").is_file() and target.path.stem.isidentifier() and folder.name.isidentifier():
        names = [target.path.stem]
        while (folder / "__init__.py").is_file() and folder.name.isidentifier():
            names.insert(0, folder.name)
            folder = folder.parent
        if names[0] not in sys.modules or _is_at(sys.modules[names[0]], folder / names[0]):
            return ".".join(names), str(folder)
    return target.path.stem.replace(".", "_"), str(target.path.parent)


def _is_at(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).resolve().parent == folder


def _import_file(name: str, path: Path) -> ModuleType:
    # `model.py` is `model`; a file called like a module in use (torch.py, random.py) must not take its place.
    if name in sys.modules or name in sys.stdlib_module_names:
        name = f"{name}_checked"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return sys.modules.get(name, module)


def import_failure(error: BaseException, target: Target) -> TargetError:
    """What went wrong while the user's file ran, told by kind, with the user's frames."""
    places = user_frames(error)
    file = shown(str(target.path))
    if isinstance(error, TargetError):
        return error
    if isinstance(error, SystemExit):
        return TargetError(
            f"{file} called exit({error.code!r}) while it was imported",
            places=places,
            help='put what belongs to the command line under `if __name__ == "__main__":`',
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name
        beside = (target.path.parent / f"{missing.partition('.')[0]}.py").is_file()
        return TargetError(
            f"{file} needs the module {missing!r}, which is not installed here",
            places=places,
            help="" if beside else f"install it for {sys.executable}, which runs nncheck",
        )
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        place = place_at("module", error.filename, error.lineno)
        return TargetError(f"{shown(error.filename)} is not valid Python: {error.msg}", places=(*places, place))
    text = words_of(error)
    return TargetError(f"{file} failed while it was imported: {type(error).__name__}: {text}", places=places)


def origins_of(reading: Reading, names: dict[str, str]) -> dict[str, Place]:
    """Where the file binds each part, for parts whose name it binds itself."""
    found = {}
    for part, name in names.items():
        line = reading.bound.get(name.partition(".")[0])
        if line is not None:
            found[part] = place_at(name, str(reading.path), line)
    return found


def attribute(module: Any, dotted: str, *, target: Target, reading: Reading) -> Any:
    """`NAME` or `NAME.attr` of a module. Raises TargetError with a did-you-mean."""
    value: Any = module
    for part in dotted.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            names = [n for n in (reading.bound if value is module else dir(value)) if not n.startswith("_")]
            close = difflib.get_close_matches(part, names, n=1)
            raise TargetError(
                f"{shown(str(target.path))} has no {dotted!r}"
                + ("" if value is module else f" ({type(value).__name__} has no {part!r})"),
                help=f"did you mean {close[0]!r}?" if close else (f"it has {', '.join(names[:8])}" if names else ""),
            ) from None
    return value


__all__ = [
    "NOT_IMPORTED",
    "Target",
    "attribute",
    "import_failure",
    "import_target",
    "isolated",
    "origins_of",
    "parse_target",
    "read",
]
