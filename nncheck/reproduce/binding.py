"""How the parts of a target are bound, written down in plain PyTorch while they are at hand."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from nncheck.observe.source import shown
from nncheck.recipe import Recipe, Setup, is_factory
from nncheck.target.assemble import DEFAULT_LR
from nncheck.target.discovery import Found
from nncheck.target.lightning import is_lightning_data, is_lightning_module
from nncheck.target.loading import parse_target
from nncheck.target.names import INDEX_NAMES, NAMES

_PARTS = ("model", "train_loader", "val_loader", "loss_fn", "optimizer", "scheduler")


def binding(target: str, found: Found, setup: Setup, arguments: tuple[str, ...] = (), *, loop: bool = False) -> str:
    """Source that defines FILE and `set_up(file)`; empty where the parts are not found again. ARGUMENTS: a script's own.

    loop: of a script too its loop is written down, for which expressions of it are evaluated once more; else only where it is.
    """
    try:
        return _bound(target, found, setup, arguments, loop=loop)
    except Exception:  # noqa: BLE001  # a set-up that cannot be written down costs its reproduce.py, never the run
        return ""


def _bound(target: str, found: Found, setup: Setup, arguments: tuple[str, ...], *, loop: bool) -> str:
    parsed = parse_target(target)
    file = shown(str(parsed.path))
    if found.recipe.training_step is not None and type(found.recipe.training_step).__module__.startswith(
        "nncheck.capture"
    ):
        return f"FILE = {file!r}\nARGUMENTS = {list(arguments)!r}\n{_of_script(found, setup) if loop else ''}"
    module = _module(parsed.path)
    if module is None:
        return ""
    writer = _Writer(module, found, setup, parsed.name)
    body = "".join(f"    {line}".rstrip() + "\n" for line in writer.lines())
    return f"FILE = {file!r}\n\n\ndef set_up(file: str) -> SetUp:\n{body}"


def _of_script(found: Found, setup: Setup) -> str:
    """`set_up` of a script: it runs to its first step, and its loop up to the loss is asked there; empty if that cannot be."""
    from nncheck.capture.adapter import step_and_parts

    written = step_and_parts(found)
    if written is None:
        return ""
    step, parts = written
    parts = {part: text for part, text in parts.items() if part in _PARTS}
    bound = [f'{p} = names["{e}"]' if e.isidentifier() else f"{p} = eval({e!r}, names)" for p, e in parts.items()]
    given = [*(f"{part}={part}" for part in parts), "loss=loss"]
    given += [f"interval={setup.scheduler_interval!r}", f"epochs={setup.epochs}"] if "scheduler" in parts else []
    body = [
        "names = names_at_first_step(file, ARGUMENTS)", "exec(STEP, names)",
        *bound,
        "optimizer.zero_grad()", "", "def loss(batch: Any) -> Any:",
        '    return scalar(names["training_step"](model, batch))', "", "return SetUp(",
        *(f"    {text}," for text in (*given, "again=lambda: set_up(file)")),
        ")",
    ]  # fmt: skip
    lines = "".join(f"    {line}".rstrip() + "\n" for line in body)
    quoted = "\n".join(step).replace("\\", "\\\\").replace("'''", "\\'\\'\\'")
    return f"STEP = '''\n{quoted}\n'''\n\n\ndef set_up(file: str) -> SetUp:\n{lines}"


def _module(path: Path) -> ModuleType | None:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file and Path(file).resolve() == path.resolve():
            return module
    return None


class _Writer:
    """Writes `model = user.net` and the like: from the file's names, or from its Recipe."""

    def __init__(self, module: ModuleType, found: Found, setup: Setup, name: str | None) -> None:
        self._module, self._found, self._setup = module, found, setup
        self._recipe = self._recipe_name(name)

    def _recipe_name(self, name: str | None) -> str | None:
        if name is not None:
            value = getattr(self._module, name.partition(".")[0], None)
            is_recipe = isinstance(value, Recipe)
            makes = "model" in self._found.names and self._found.names["model"].partition("(")[0] != name
            return name if is_recipe else f"{name}()" if makes else None
        return next((n for n, v in vars(self._module).items() if isinstance(v, Recipe)), None)

    def lines(self) -> list[str]:
        lines = ["stand_in()"] if self._recipe else []
        package = (Path(self._module.__file__ or "").parent / "__init__.py").is_file()
        lines += ["seed(SEED)", f"user = load{'_from_package' * package}(file)", "seed(SEED)"]
        lines += [f"recipe = user.{self._recipe}"] if self._recipe else []
        lines += [*self._parts(), "", *self._loss(), *self._train_step()]
        return [*lines, *self._returned()]

    def _parts(self) -> list[str]:
        lines: list[str] = []
        setup, recipe = self._setup, self._found.recipe
        for part in _PARTS:
            value = getattr(recipe, part)
            if value is None and part == "val_loader" and setup.val_loader is not None and not self._frameworks():
                lines[-1] = lines[-1].replace("train_loader = ", "train_loader, val_loader = ") + "[:2]"
            elif value is None and part == "optimizer":
                lines += self._optimizer()
            elif value is None:
                lines += self._of_framework(part)
            elif part == "train_loader" and is_lightning_data(value):
                lines += [
                    f"data = {self._expression(part, value)}",
                    'data.setup("fit")',
                    "train_loader = data.train_dataloader()",
                ]
            else:
                lines.append(f"{part} = {self._expression(part, value)}")
        return lines

    def _frameworks(self) -> bool:
        return is_lightning_module(self._setup.model) or is_lightning_data(self._found.recipe.train_loader)

    def _of_framework(self, part: str) -> list[str]:
        if getattr(self._setup, part) is None or part not in ("train_loader", "val_loader"):
            return []
        owner = "data" if is_lightning_data(self._found.recipe.train_loader) else "model"
        return [f"{part} = {owner}.{part.removesuffix('_loader')}_dataloader()"]

    def _optimizer(self) -> list[str]:
        if self._setup.default_optimizer:
            return [f"optimizer = torch.optim.AdamW(model.parameters(), lr={DEFAULT_LR:g})"]
        if is_lightning_module(self._setup.model):
            return ["optimizer, scheduler, interval = configured(model)"]
        name = next((n for n, v in vars(self._module).items() if v is self._setup.optimizer), None)
        return [f"optimizer = user.{name}"] if name else ["optimizer = None"]

    def _expression(self, part: str, value: Any) -> str:
        known = ", ".join(
            f"{p}={p}" for p in _PARTS[: _PARTS.index(part)] if getattr(self._found.recipe, p) is not None
        )
        if self._recipe:
            return f"made(recipe.{part}, {known})" if is_factory(part, value) else f"recipe.{part}"
        name = f"user.{self._found.names[part].partition('(')[0]}"
        held: Any = getattr(self._module, self._found.names[part].partition("(")[0].partition(".")[0], None)
        if is_factory(part, value):
            return f"{name}({', '.join(_needed(value))})"
        if (
            part == "train_loader"
            and isinstance(value, DataLoader)
            and "." not in self._found.names[part]
            and held is not value
        ):
            how = "" if isinstance(value.dataset, IterableDataset) else ", shuffle=True"
            return f"torch.utils.data.DataLoader({name}, batch_size=32{how})"
        return name if held is value or "." in name.removeprefix("user.") else f"{name}()"

    def _loss(self) -> list[str]:
        setup, head = self._setup, ["def loss(batch: Any) -> Any:"]
        if setup.training_step is not None:
            if self._found.recipe.training_step is None:  # a LightningModule's
                own: Any = setup.model.training_step
                given = len(inspect.signature(own).parameters)
                return [*head, f"    return scalar(model.training_step({', '.join(('batch', '0')[:given])}))", ""]
            step = "recipe.training_step" if self._recipe else f"user.{self._found.names['training_step']}"
            return [*head, f"    return scalar({step}({_arguments(setup.training_step, '0')}))", ""]
        if setup.loss_fn is not None:
            dataset = getattr(setup.train_loader, "dataset", None)
            if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
                return [*head, "    inputs, target = batch", "    return loss_fn(model(inputs), target)", ""]
            return [*head, "    inputs, target = split(batch)", "    return loss_fn(answer(model, inputs), target)", ""]
        if setup.train_step is not None:
            return [*head, "    return loss_before_backward(train_step, batch)", ""]
        return [*head, "    return scalar(answer(model, batch))", ""]

    def _train_step(self) -> list[str]:
        step = self._setup.train_step
        if step is None:
            return []
        name = "recipe.train_step" if self._recipe else f"user.{self._found.names['train_step']}"
        return ["def train_step(batch: Any, index: int) -> Any:", f"    return {name}({_arguments(step, 'index')})", ""]

    def _returned(self) -> list[str]:
        setup, found = self._setup, self._found.recipe
        scheduler = setup.scheduler is not None
        given = ["model=model", "train_loader=train_loader", "loss=loss", "optimizer=optimizer"]
        given += ["val_loader=val_loader"] if setup.val_loader is not None else []
        given += ["scheduler=scheduler"] if scheduler else []
        own = not setup.default_optimizer and found.optimizer is None and is_lightning_module(setup.model)
        interval = "interval" if own else self._setting("scheduler_interval", setup.scheduler_interval)
        given += [f"interval={interval}"] if scheduler and setup.scheduler_interval else []
        given += [f"epochs={self._setting('epochs', setup.epochs)}"] if scheduler and setup.epochs else []
        given += ["criterion=loss_fn"] if found.loss_fn is not None else []
        given += ["train_step=train_step"] if setup.train_step is not None else []
        return ["return SetUp(", *(f"    {text}," for text in (*given, "again=lambda: set_up(file)")), ")"]

    def _setting(self, part: str, value: Any) -> str:
        """A number or word of the schedule: as the file names it, so that another version of the file may name another."""
        if self._recipe:
            return f"recipe.{part} or {value!r}" if getattr(self._found.recipe, part) is not None else repr(value)
        name = self._found.names.get(part, "")
        return f"user.{name}" if name.isidentifier() else repr(value)


def _needed(function: Any) -> list[str]:
    """What a factory is given, for those of its parameters that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    values = {"params": "model.parameters()", "device": '"cpu"'}
    return [
        f"{p.name}={values.get(p.name, p.name)}" if p.kind is p.KEYWORD_ONLY else values.get(p.name, p.name)
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def _arguments(step: Any, index: str) -> str:
    """The arguments that a step function names, as nncheck gives them."""
    named = {name: part for part in ("model", "optimizer", "scheduler", "loss_fn") for name in NAMES[part]}
    named |= dict.fromkeys(INDEX_NAMES, index) | {"device": "next(model.parameters()).device", "epoch": "0"}
    asked = [p for p in inspect.signature(step).parameters.values() if p.default is p.empty]
    return ", ".join("batch" if len(asked) == 1 else named.get(p.name, "batch") for p in asked)
