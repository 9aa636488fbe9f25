"""A file read without running it: what it binds at module level, on which line, and whether importing it would train."""

from __future__ import annotations

import ast
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from nncheck.errors import TargetError
from nncheck.observe.source import place_at, shown
from nncheck.target.names import LOADER_PAIRS, MAKERS, NAMES, made_names

# Local files that a file imports are read too, this deep: `run.py` -> `engine.py` -> `train.py`.
MAX_DEPTH = 4

# Methods that train whoever owns them. `.fit` and `.train` alone do not: a scaler is fitted and a module put in train
# mode by importing a healthy file, so these count only on a trainer.
_TRAINS = frozenset({"backward", "manual_backward", "fit_one_cycle", "fine_tune", "train_model"})
_TRAINER_METHODS = frozenset({"fit", "train", "run", "learn"})

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line on the way from a module-level statement to the training."""

    file: Path
    line: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One file as text. `bound`: module-level name -> line. `classes`, `functions`: those written in the file."""

    path: Path
    tree: ast.Module
    bound: dict[str, int]
    functions: dict[str, FunctionNode]
    classes: dict[str, ast.ClassDef]
    trainers: frozenset[str]
    imports: dict[str, tuple[str, int, str | None]] = field(default_factory=dict)
    """Local name -> (module, relative level, name in it or None for the module itself)."""


def read(path: Path) -> Reading:
    """Parse a file. Raises TargetError pointing at the line that is no Python."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        place = place_at("module", str(path), error.lineno)
        if error.lineno is None:
            raise TargetError(f"{shown(str(path))} cannot be read as Python: {error.msg}") from error
        raise TargetError(
            f"{shown(str(path))} is not valid Python: {error.msg}", places=(place,), help=f"correct line {error.lineno}"
        ) from error
    except UnicodeDecodeError as error:
        raise TargetError(f"{shown(str(path))} is not text: {error.reason} at byte {error.start}") from error
    except ValueError as error:  # null bytes
        raise TargetError(f"{shown(str(path))} cannot be read as Python: {error}") from error
    except RecursionError as error:
        raise TargetError(f"{shown(str(path))} nests too deeply to be read") from error
    except OSError as error:
        raise TargetError(f"{shown(str(path))} cannot be read: {error.strerror or error}") from error
    body = list(_importable(tree.body))
    reading = Reading(
        path=path,
        tree=tree,
        bound={},
        functions={n.name: n for n in body if isinstance(n, FunctionNode)},
        classes={n.name: n for n in body if isinstance(n, ast.ClassDef)},
        trainers=frozenset(_trainers(tree)),
    )
    for node in body:
        _bind(node, reading)
    return reading


def _importable(body: list[ast.stmt]) -> list[ast.stmt]:
    """Module-level statements that run on import, those inside `if`, `try`, `with` and loops included."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.If) and _is_main_guard(node.test):
            found += _importable(node.orelse)
            continue
        found.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.For, ast.While)):
            for name in ("body", "orelse", "finalbody"):
                found += _importable(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                found += _importable(handler.body)
    return found


def _is_main_guard(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp):
        return isinstance(test.op, ast.And) and any(map(_is_main_guard, test.values))
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = (test.left, test.comparators[0])
    return any(isinstance(s, ast.Name) and s.id == "__name__" for s in sides) and any(
        isinstance(s, ast.Constant) and s.value == "__main__" for s in sides
    )


def _bind(node: ast.stmt, reading: Reading) -> None:
    bound = reading.bound
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        bound[node.name] = node.lineno
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            local = alias.asname or alias.name.partition(".")[0]
            bound[local] = node.lineno
            reading.imports[local] = (alias.name if alias.asname else alias.name.partition(".")[0], 0, None)
        return
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            bound[alias.asname or alias.name] = node.lineno
            reading.imports[alias.asname or alias.name] = (node.module or "", node.level, alias.name)
        return
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For, ast.AsyncFor)):
        targets = [node.target]
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
    for target in targets:
        for name in ast.walk(target):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                bound[name.id] = node.lineno


def _trainers(tree: ast.Module) -> set[str]:
    """Names assigned from a call of a class that is called ...Trainer, ...Learner or NeuralNet... anywhere in the file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _is_trainer_class(node.value.func):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return found


def _is_trainer_class(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.endswith(("Trainer", "Learner")) or name.startswith("NeuralNet")


def training_on_import(reading: Reading) -> tuple[Step, ...]:
    """The way from a module-level statement to a line that trains; empty if importing the file trains nothing."""
    return _Search().file(reading, depth=0)


def trains_as_script(reading: Reading) -> bool:
    """Whether a file is written to be run, not to be imported for its parts.

    It trains on import, or under its main guard with no loader at module level; or it has nothing to offer to who imports it, and
    does something when run: its training may be out of sight, in a library or another process.
    """
    if _writes_a_recipe(reading):
        return False
    if training_on_import(reading):
        return True
    guarded = [node for node in reading.tree.body if isinstance(node, ast.If) and _is_main_guard(node.test)]
    search = _Search()
    if not _binds_a_loader(reading) and any(search.trains(node.body, reading) for node in guarded):
        return True
    runs = [
        node
        for node in _importable(reading.tree.body)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    return not _offers_parts(reading) and bool(runs or guarded)


def _writes_a_recipe(reading: Reading) -> bool:
    return "Recipe" in reading.imports or any(
        isinstance(n, ast.Attribute) and n.attr == "Recipe" for n in ast.walk(reading.tree)
    )


def _offers_parts(reading: Reading) -> bool:
    """Whether importing a file may give a model, a loader or a Lightning module: by name, by a builder, or as what it assigns."""
    names = {name for part in ("model", "train_loader") for name in (*NAMES[part], *made_names(part))}
    if names & reading.bound.keys() or _binds_a_loader(reading):
        return True
    bases = [ast.unparse(base) for owner in reading.classes.values() for base in owner.bases]
    if any("Lightning" in base for base in bases):
        return True
    return any(isinstance(n, ast.Assign) and _makes_a_part(n.value, reading) for n in _importable(reading.tree.body))


def _makes_a_part(value: ast.expr, reading: Reading) -> bool:
    made = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
    return made in reading.classes or made.startswith(("nn.", "torch.nn.")) or made.endswith("Loader")


def _binds_a_loader(reading: Reading) -> bool:
    """Whether a file offers its loader, or its step, to who imports it: by name, or by a builder that needs nothing."""
    steps = {*NAMES["training_step"], *NAMES["train_step"]} & reading.functions.keys()
    loaders = {*NAMES["train_loader"], *(m + n for m in MAKERS for n in LOADER_PAIRS), *made_names("train_loader")}
    for name in loaders & reading.bound.keys():
        function = reading.functions.get(name)
        if function is None:
            return True
        needed = function.args.args[: len(function.args.args) - len(function.args.defaults)]
        if all(argument.arg in NAMES for argument in needed):
            return True
    return bool(steps)


class _Search:
    """Follows calls from what runs on import: functions and methods of the file, and those it imports from files beside it."""

    def __init__(self) -> None:
        self._files: dict[Path, Reading | None] = {}
        self._being_read: set[Path] = set()

    def file(self, reading: Reading, *, depth: int) -> tuple[Step, ...]:
        if depth > MAX_DEPTH or reading.path in self._being_read:
            return ()
        self._being_read.add(reading.path)
        for node in _importable(reading.tree.body):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found = self._import(node, reading, depth)
            else:
                found = self._code([node], reading, frozenset(), depth)
            if found:
                return found
        return ()

    def trains(self, body: list[ast.stmt], reading: Reading) -> bool:
        """Whether these statements train, by themselves or through what they call."""
        return bool(self._code(body, reading, frozenset(), 0))

    def _import(self, node: ast.Import | ast.ImportFrom, reading: Reading, depth: int) -> tuple[Step, ...]:
        modules = (
            [(a.name, 0) for a in node.names] if isinstance(node, ast.Import) else [(node.module or "", node.level)]
        )
        for module, level in modules:
            other = self._local(module, level, reading)
            if other is not None:
                found = self.file(other, depth=depth + 1)
                if found:
                    return (Step(file=reading.path, line=node.lineno, name="import"), *found)
        return ()

    def _code(
        self, nodes: list[ast.stmt], reading: Reading, visited: frozenset[tuple[Path, int]], depth: int
    ) -> tuple[Step, ...]:
        """The first training call among statements, through the functions they call."""
        passed = _passed(nodes)
        for call in _calls(nodes):
            here = Step(file=reading.path, line=call.lineno, name=ast.unparse(call.func))
            if _trains(call, reading):
                return (here,)
            given = [f for name in passed.get(call, ()) for f in self._named(name, reading)]
            for home, function in (*self._callees(call, reading), *given):
                key = (home.path, function.lineno)
                if key in visited or len(visited) > 40:
                    continue
                found = self._code(function.body, home, visited | {key}, depth)
                if found:
                    return (here, *found)
        return ()

    def _callees(self, call: ast.Call, reading: Reading) -> list[tuple[Reading, FunctionNode]]:
        function = call.func
        if isinstance(function, ast.Name):
            return self._named(function.id, reading)
        if not isinstance(function, ast.Attribute):
            return []
        if isinstance(function.value, ast.Name) and function.value.id in reading.imports:
            module, level, name = reading.imports[function.value.id]
            other = self._local(module if name is None else f"{module}.{name}".lstrip("."), level, reading)
            return self._named(function.attr, other) if other is not None else []
        # A method: whoever in this file, or in a file it imports a class from, defines one of that name.
        homes = [reading]
        for module, level, name in reading.imports.values():
            other = self._local(module, level, reading) if name and name[:1].isupper() else None
            if other is not None and other not in homes:
                homes.append(other)
        return [
            (home, item)
            for home in homes
            for owner in home.classes.values()
            for item in owner.body
            if isinstance(item, FunctionNode) and item.name == function.attr and function.attr != "forward"
        ]

    def _named(self, name: str, reading: Reading, depth: int = 0) -> list[tuple[Reading, FunctionNode]]:
        if name in reading.functions:
            return [(reading, reading.functions[name])]
        if name in reading.classes:
            makers = [n for n in reading.classes[name].body if isinstance(n, FunctionNode) and n.name == "__init__"]
            return [(reading, n) for n in makers]
        if name in reading.imports and depth < MAX_DEPTH:
            module, level, original = reading.imports[name]
            other = self._local(module, level, reading)
            if other is not None and original is not None:
                return self._named(original, other, depth + 1)
        return []

    def _local(self, module: str, level: int, reading: Reading) -> Reading | None:
        """The file of a module that lies beside the one that imports it, or None."""
        folder = reading.path.parent
        for _ in range(level - 1):
            folder = folder.parent
        base = folder.joinpath(*module.split(".")) if module else folder
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path not in self._files:
                try:
                    self._files[path] = read(path) if path.is_file() else None
                except TargetError:  # it will be said when the file is imported
                    self._files[path] = None
            if self._files[path] is not None:
                return self._files[path]
        return None


def _calls(nodes: list[ast.stmt]) -> list[ast.Call]:
    """Calls that run when the statements do, in order: not those inside functions, classes' methods and lambdas."""
    found: list[ast.Call] = []
    pending: list[ast.AST] = [n for n in nodes if not isinstance(n, FunctionNode)]
    while pending:
        node = pending.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and _is_main_guard(node.test):
            pending = [*node.orelse, *pending]
            continue
        if isinstance(node, ast.Call):
            found.append(node)
        pending = [*ast.iter_child_nodes(node), *pending]
    return found


def _passed(nodes: list[ast.stmt]) -> dict[ast.Call, list[str]]:
    """Functions that are handed to somebody who calls them: `fire.Fire(main)` as a statement, or `Process(target=main)`."""
    found: dict[ast.Call, list[str]] = {}
    for node in nodes:
        whole = node.value if isinstance(node, ast.Expr) else None
        for call in _calls([node]):
            names = [k.value.id for k in call.keywords if k.arg == "target" and isinstance(k.value, ast.Name)]
            if call is whole:
                names += [a.id for a in call.args if isinstance(a, ast.Name)]
            if names:
                found[call] = names
    return found


def _trains(call: ast.Call, reading: Reading) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr in _TRAINS:
        return True
    if function.attr == "step" and call.args and "opt" in ast.unparse(function.value).lower():
        return True  # given a closure, which calls backward
    if function.attr not in _TRAINER_METHODS:
        return False
    owner = function.value
    if isinstance(owner, ast.Call):
        return _is_trainer_class(owner.func)
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return name in reading.trainers or name.lower() == "trainer"


def does_whole_step(function: FunctionNode) -> bool:
    """Whether a step function takes the step itself, and does not only compute the loss: it calls `backward`, or `zero_grad`
    and the like on what is called an optimizer."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value).lower()
        if node.attr in ("backward", "manual_backward", "zero_grad") or (node.attr == "step" and "opt" in owner):
            return True
    return False
