"""`nncheck init train.py`: the script's own lines up to its loop, and its loop up to the loss, written down as a set-up."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import linecache
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from nncheck.capture.cutting import cut
from nncheck.capture.frameworks import plain_loader
from nncheck.capture.loops import SourceLoop, covers, owner_of
from nncheck.capture.record import Record, Stood
from nncheck.capture.replay import LossOfLoop
from nncheck.observe.source import is_users, shown
from nncheck.target.discovery import Found
from nncheck.target.reading import read, training_on_import

_PLAIN = (int, float, str, bool, type(None))


def adapter(found: Found, *, what: str, output: str) -> str | None:
    """The text of a file that binds what was found in a script; None if its loop is not among its own lines."""
    begun = _writer(found)
    if begun is None:
        return None
    writer, line = begun
    lines = writer.set_up()
    step = writer.training_step(line, found.recipe.train_loader)
    parts = writer.parts(found)
    head = [
        f'"""The training set-up of {what}, for `nncheck run {output}`: its own lines up to its loop, and the loop up to its loss.',
        "",
        "Everything here runs when nncheck loads the file.",
        '"""',
        "",
        *[f"# Missing: {text}" for text in dict.fromkeys(writer.missing)],
        *writer.imports([*lines, *step, "f(", *parts, ")"]),
        "import nncheck",
        "",
    ]
    return "\n".join([*head, *lines, "", *step, "", "setup = nncheck.Recipe(", *parts, ")"]) + "\n"


def step_and_parts(found: Found) -> tuple[list[str], dict[str, str]] | None:
    """The loop up to its loss as a function `training_step(model, batch)`, and under which expressions the script has its parts.

    Both hold where the script stands at its first step. None if anything of that could not be written down.
    """
    begun = _writer(found)
    if begun is None:
        return None
    writer, line = begun
    step = writer.training_step(line, found.recipe.train_loader)
    parts = (text.strip().rstrip(",").partition("=") for text in writer.parts(found))
    written = {part: expression for part, _, expression in parts}
    return None if writer.missing else (step, written)


def _writer(found: Found) -> tuple[_Writer, int] | None:
    """What writes a script's set-up down, and the loop's line that goes back; None if the loop is not among its own lines."""
    asked = found.recipe.training_step
    if not isinstance(asked, LossOfLoop):
        return None
    record, loop = asked.replay.record, asked.replay.inner
    if not isinstance(loop, SourceLoop) or not loop.is_loop:
        return None
    stack = [stood for stood in record.backward if is_users(stood.frame.f_code.co_filename)]
    inside = next((i for i, stood in enumerate(stack) if stood.frame is loop.frame), None)
    if inside is None:
        return None
    return _Writer(list(reversed(stack[inside:])), loop, record, stack[:inside]), stack[inside].line


class _Writer:
    """chain: the script's frames from the outermost to the one with the loop; within: those inside of it, the innermost first.

    missing: what could not be written down.
    """

    def __init__(self, chain: list[Stood], loop: SourceLoop, record: Record, within: list[Stood]) -> None:
        self._chain, self._loop, self._record, self._inner = chain, loop, record, within
        self._names: dict[str, Any] = {}
        self._module = chain[0]
        self._importable = self._may_be_imported()
        self.missing: list[str] = []
        self._loader_lines: list[str] = []
        for stood in chain:
            self._names |= {**stood.frame.f_globals, **stood.names} if stood is self._module else stood.names

    def _may_be_imported(self) -> bool:
        path = Path(self._module.frame.f_code.co_filename)
        return path.suffix == ".py" and path.stem.isidentifier() and not training_on_import(read(path))

    # The lines before the loop.
    def set_up(self) -> list[str]:
        """Every frame's statements up to the call of the next, its parameters bound first."""
        lines: list[str] = []
        notebook, cell, number = self._module.frame.f_code.co_filename.rpartition(" cell ")
        if cell and notebook.endswith(".ipynb"):  # what earlier cells did
            for earlier in range(1, int(number)):
                lines += "".join(linecache.getlines(f"{notebook} cell {earlier}")).splitlines()
        for i, stood in enumerate(self._chain):
            owner = owner_of(stood.frame.f_code)
            if owner is None:
                self.missing.append(f"the source of {stood.frame.f_code.co_name}")
                continue
            if not isinstance(owner, ast.Module):
                lines += self._parameters(owner, stood, self._chain[i - 1])
            until = self._loop.line if stood.frame is self._loop.frame else stood.line
            lines += self._before(owner.body, until, stood)
        return lines

    def _parameters(self, owner: Any, stood: Stood, caller: Stood) -> Iterator[str]:
        above = {**caller.frame.f_globals, **caller.names}
        every = owner.args
        for argument in (*every.posonlyargs, *every.args, *every.kwonlyargs):
            name, value = argument.arg, stood.names.get(argument.arg)
            if above.get(name) is value:
                continue
            same = next((other for other, held in above.items() if held is value), None)
            if isinstance(value, _PLAIN):
                yield f"{name} = {value!r}"
            elif same is not None:
                yield f"{name} = {same}"
            elif isinstance(value, argparse.Namespace):
                yield from self._namespace(name, value)
            elif dataclasses.is_dataclass(value) and self._names.get(type(value).__name__) is type(value):
                fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
                yield f"{name} = {self._written(name, type(value).__name__, fields)}"
            elif repr_is_plain(value):
                yield f"{name} = {value!r}"
            elif type(value).__module__.startswith("omegaconf") and repr_is_plain(held := _container(value)):
                yield f"{name} = omegaconf.OmegaConf.create({held!r})"
            else:
                self.missing.append(f"{name}, a {type(value).__name__} that {owner.name} is given")
                yield f"{name} = ...  # a {type(value).__name__}"

    def _before(self, body: list[ast.stmt], until: int, stood: Stood) -> list[str]:
        lines: list[str] = []
        for node in body:
            if covers(node, until):
                return lines + self._within(node, until, stood)
            if node.lineno > until:
                break
            lines += self._statement(node, stood)
        return lines

    def _within(self, node: Any, until: int, stood: Stood) -> list[str]:
        """Of a statement that holds the loop: what it does before."""
        lines: list[str] = []
        if isinstance(node, ast.For) and node.lineno != until:
            lines += _counted(node, stood)
        for block in (getattr(node, name, []) for name in ("body", "orelse", "finalbody")):
            if any(covers(inner, until) for inner in block) and node.lineno != until:
                lines += self._before(block, until, stood)
        return lines

    def _statement(self, node: ast.stmt, stood: Stood) -> list[str]:
        module = stood is self._module
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if (
            docstring
            or isinstance(node, (ast.Global, ast.Nonlocal))
            or (module and self._importable and node.col_offset == 0)
        ):
            return []  # what the module has is imported from it
        if isinstance(node, ast.ImportFrom) and node.level:
            self.missing.append(f"what line {node.lineno} imports relatively")
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        held = {**stood.frame.f_globals, **stood.names}.get(target.id) if isinstance(target, ast.Name) else None
        if isinstance(target, ast.Name) and isinstance(held, argparse.Namespace):
            return list(self._namespace(target.id, held))
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if any(isinstance(self._names.get(name), argparse.ArgumentParser) for name in names):
            return []
        return self._text(node, stood)

    def _namespace(self, name: str, value: argparse.Namespace) -> Iterator[str]:
        yield f"{name} = {self._written(name, 'argparse.Namespace', vars(value))}"

    def _written(self, name: str, kind: str, values: Mapping[str, Any]) -> str:
        plain = {k: repr(v) for k, v in values.items() if repr_is_plain(v)}
        plain |= {k: f"pathlib.Path({str(v)!r})" for k, v in values.items() if isinstance(v, PurePath)}
        for left in values.keys() - plain.keys():
            self.missing.append(f"{name}.{left}, a {type(values[left]).__name__}")
        return f"{kind}({', '.join(f'{k}={v}' for k, v in plain.items())})"

    def _text(self, node: ast.stmt, stood: Stood) -> list[str]:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        source = linecache.getlines(stood.frame.f_code.co_filename)[first - 1 : node.end_lineno]
        rest = source[-1].encode()[node.end_col_offset :].decode().strip() if source else ""
        if (
            not source or rest.startswith(";") or source[0].encode()[: node.col_offset].strip(b" @")
        ):  # not alone on its line
            return ast.unparse(node).split("\n")
        return textwrap.dedent("".join(source)).rstrip("\n").split("\n")

    def imports(self, lines: list[str]) -> list[str]:
        """What those lines take from the script's module, and from elsewhere as it does."""
        used = {n.id for n in ast.walk(ast.parse("\n".join(lines))) if isinstance(n, ast.Name)}
        found = [f"import {name}" for name in ("argparse", "omegaconf", "pathlib") if name in used]
        if not self._importable:
            return found
        module = read_path(self._module)
        for name in sorted(used & module.bound.keys() - {"argparse", "omegaconf", "pathlib"}):
            if name not in module.imports:
                continue
            source, level, original = module.imports[name]
            if level == 0:
                alias = "" if (original or source) == name else f" as {name}"
                found.append(
                    f"import {source}{alias}" if original is None else f"from {source} import {original}{alias}"
                )
        own = sorted(used & module.bound.keys() - module.imports.keys())
        return [*found, f"from {module.path.stem} import {', '.join(own)}"] if own else found

    # The loop.
    def training_step(self, line: int, loader: Any) -> list[str]:
        """The loop's statements up to its backward pass, as a function that returns the loss."""
        node = self._loop.statement
        body = list(node.body)
        bound = self._batch(node, body, loader)
        kept = cut(body, line, self._inner)
        if bound is None:
            self.missing.append("how the batch is taken apart in the loop")
        if kept is None:
            self.missing.append(
                f"the loss: backward is not called by the loop itself ({shown(self._loop.file)}:{line})"
            )
            kept = [*body, *ast.parse("return ...").body]
        changed = sorted(
            {
                n.target.id
                for s in kept
                for n in ast.walk(s)
                if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)
            }
        )
        lines = [f"global {', '.join(changed)}"] if changed else []
        lines += bound or ["...  # take the batch apart"]
        lines += "\n".join(ast.unparse(ast.fix_missing_locations(statement)) for statement in kept).split("\n")
        return [*self._loader_lines, "def training_step(model, batch):", *("    " + text for text in lines)]

    def _batch(self, node: Any, body: list[ast.stmt], loader: Any) -> list[str] | None:
        """Lines that bind what the loop takes from a batch. A statement of the loop that fetches it is taken out of `body`."""
        taken = {id(t) for t in self._record.called.taken.tensors} if self._record.called is not None else set()
        if isinstance(node, ast.For):
            found = list(_targets(node.target, node.iter, lambda e: self._holds(e, loader)))
            if found:
                return found
        for statement in body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
                continue
            names = [n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            fetches = ast.unparse(statement.value.func) == "next"
            if fetches or any(id(self._chain[-1].names.get(name)) in taken for name in names):
                body.remove(statement)
                if not fetches:
                    rounds = (
                        f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}"
                        if isinstance(node, ast.For)
                        else "if True"
                    )
                    self._loader_lines = [
                        "class Batches:", "    def __iter__(self):", "        while True:", f"            {rounds}:",
                        f"                yield {ast.unparse(statement.value)}", "", "",
                    ]  # fmt: skip
                counted = list(_counted(node, self._chain[-1])) if isinstance(node, ast.For) else []
                return [f"{ast.unparse(target)} = batch" for target in statement.targets] + counted
        return None

    def _holds(self, expression: ast.expr, wanted: Any) -> bool:
        try:
            names = {**self._chain[-1].frame.f_globals, **self._chain[-1].names}
            return plain_loader(eval(ast.unparse(expression), names)) is wanted  # a name
        except Exception:  # noqa: BLE001  # then it is not it
            return False

    def parts(self, found: Found) -> list[str]:
        """The arguments of the recipe."""
        recipe, lines = found.recipe, []
        for part in ("model", "train_loader", "val_loader", "optimizer", "scheduler"):
            value = getattr(recipe, part)
            if value is None:
                continue
            name = "Batches()" if part == "train_loader" and self._loader_lines else self._name(value)
            if name is None:
                self.missing.append(f"{part}, a {type(value).__name__}")
            lines.append(f"    {part}={name or '...'},")
        if recipe.epochs is not None:
            lines.append(f"    epochs={recipe.epochs},")
        return [*lines, "    training_step=training_step,"]

    def _name(self, wanted: Any) -> str | None:
        for name, value in reversed(self._names.items()):
            if value is wanted or (hasattr(value, "base_dataloader") and plain_loader(value) is wanted):
                return name
        for name, value in reversed(self._names.items()):
            if hasattr(value, "__dict__") and type(value).__module__ not in ("builtins", "types"):
                for inner, held in vars(value).items():
                    if held is wanted and name.isidentifier():
                        return f"{name}.{inner}"
        return None


def _counted(node: ast.For, stood: Stood) -> Iterator[str]:
    """The numbers that a loop counts, as they were."""
    for name in (n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)):
        if isinstance(stood.names.get(name), _PLAIN):
            yield f"{name} = {stood.names[name]!r}"


def _container(value: Any) -> Any:
    """The plain values of hydra's configuration."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value, resolve=True)


def repr_is_plain(value: Any) -> bool:
    """Whether a value can be written down as it is printed."""
    if isinstance(value, (list, tuple, set)):
        return all(map(repr_is_plain, value))
    if isinstance(value, dict):
        return all(map(repr_is_plain, (*value, *value.values())))
    return isinstance(value, _PLAIN)


def read_path(stood: Stood) -> Any:
    """The module of a frame, read."""
    return read(Path(stood.frame.f_code.co_filename))


def _targets(target: ast.expr, iterated: ast.expr, is_loader: Any) -> Iterator[str]:
    """`for i, (x, y) in enumerate(tqdm(loader))` -> `i = 0`, `x, y = batch`."""
    if is_loader(iterated):
        yield f"{ast.unparse(target)} = batch"
    elif isinstance(iterated, ast.Call) and iterated.args:
        counted = isinstance(iterated.func, ast.Name) and iterated.func.id == "enumerate"
        if counted and isinstance(target, ast.Tuple) and len(target.elts) == 2:
            inner = list(_targets(target.elts[1], iterated.args[0], is_loader))
            yield from [f"{ast.unparse(target.elts[0])} = 0", *inner] if inner else []
        else:
            yield from _targets(target, iterated.args[0], is_loader)
