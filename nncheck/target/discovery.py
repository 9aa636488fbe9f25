"""From an imported file to a recipe: which of its names is which part. What was bound is always told."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from nncheck.errors import TargetError
from nncheck.observe.source import place_at
from nncheck.recipe import PARTS, Recipe, call_factory, is_factory
from nncheck.target.loading import Target, attribute, origins_of
from nncheck.target.names import (
    BATCH_NAMES,
    FLAGS,
    INDEX_NAMES,
    LOADER_PAIRS,
    MAKERS,
    NAMES,
    SECOND_BEST,
    STEP_EXTRAS,
    made_names,
)
from nncheck.target.only import only_loader, only_loss, only_model
from nncheck.target.reading import Reading, does_whole_step
from nncheck.target.search import Search
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class Found:
    """A recipe and, for people, under which names its parts were found. `origins` are the lines that bind them.

    `label` tells it from the others where a script has several optimizers.
    """

    recipe: Recipe
    names: dict[str, str]
    notes: tuple[str, ...]
    origins: dict[str, Place]
    label: str = ""


def discover(module: ModuleType, reading: Reading, target: Target, flags: Mapping[str, str] | None = None) -> Found:
    """The recipe of an imported file. Raises TargetError if a needed part is missing or could be several things."""
    flags = dict(flags or {})
    search = Search(module, reading, target)
    value = None
    if target.name is not None:
        value = attribute(module, target.name, target=target, reading=reading)
        value = _made(value, target.name, search)
        if isinstance(value, Recipe):
            return _from_recipe(value, target.name, search, flags)
        search.bind("model", target.name, value)
    elif not flags:
        recipes = {name: item for name, item in vars(module).items() if isinstance(item, Recipe)}
        different = {id(item): name for name, item in reversed(recipes.items())}
        if len(different) > 1:
            raise TargetError(
                f"{search.file} holds {len(different)} recipes: {', '.join(recipes)}",
                places=tuple(search.place(name) for name in recipes),
                help="name one, or several: " + " ".join(f"{target.text}:{name}" for name in recipes),
            )
        if recipes:
            name = next(iter(recipes))
            return _from_recipe(recipes[name], name, search, flags)
    for part, name in flags.items():
        if part == "epochs" and name.isdigit():
            search.bind(part, name, int(name))
        elif part != "model" or target.name is None:
            search.bind(part, name, attribute(module, name, target=target, reading=reading))
    for part in ("model", "train_loader", "val_loader", "loss_fn", "optimizer", "scheduler"):
        if part not in search.parts:
            _by_name(part, search)
    _pairs(search)
    _steps(search)
    kinds: dict[str, Any] = {"epochs": int, "scheduler_interval": str, "target_error": (int, float)}
    for part, wanted in kinds.items():
        for name in NAMES[part]:
            given = vars(module).get(name)
            if part not in search.parts and isinstance(given, wanted) and not isinstance(given, bool):
                search.bind(part, name, given)
    for part, rule in (("model", only_model), ("train_loader", only_loader), ("loss_fn", only_loss)):
        if part not in search.parts:
            rule(search)
    if "model" not in search.parts:
        raise _no_model(search)
    for part, why in search.unusable.items():
        if part not in search.parts and part != "train_loader":
            search.notes.append(f"not used as {part}: {'; '.join(why[:3])}")
    if "train_loader" not in search.parts and search.unusable.get("train_loader"):
        raise TargetError(
            f"{search.file} has no train_loader that can be used: {'; '.join(search.unusable['train_loader'][:4])}",
            help="bind a DataLoader, or any iterable of batches, to `train_loader`",
        )
    # A builder is left out of the printed names: `model = build_model()` says what was done.
    names = {p: f"{n}()" if is_factory(p, search.parts[p]) else n for p, n in search.names.items()}
    return Found(
        recipe=Recipe(**{part: search.parts.get(part) for part in PARTS}),
        names=names,
        notes=tuple(search.notes),
        origins=origins_of(reading, search.names),
    )


def _made(value: Any, name: str, search: Search) -> Any:
    """What a NAME stands for: itself, or what it returns when it is called with nothing."""
    from torch import nn

    if isinstance(value, (Recipe, nn.Module)):
        return value
    if not callable(value):
        raise TargetError(
            f"{search.file}:{name} is {value!r:.80}",
            places=(search.place(name),),
            help="name a Recipe, a model, or a function without arguments that returns one",
        )
    made = call_factory("target", value, {}, place=search.place(name))
    if not isinstance(made, (Recipe, nn.Module)):
        raise TargetError(
            f"{search.file}:{name}() returned {made!r:.80}",
            places=(search.place(name),),
            help="return a Recipe, an nn.Module or a LightningModule",
        )
    return made


def _from_recipe(recipe: Recipe, name: str, search: Search, flags: Mapping[str, str]) -> Found:
    import dataclasses

    names = {part: f"{name}.{part}" for part in PARTS if getattr(recipe, part) is not None}
    origins = {}
    call = _recipe_call(search.reading.tree, name.partition(".")[0])
    for keyword in call.keywords if call is not None else ():
        if keyword.arg in PARTS:
            known = search.reading.bound.get(keyword.value.id) if isinstance(keyword.value, ast.Name) else None
            names[keyword.arg] = text if len(text := ast.unparse(keyword.value)) <= 40 else f"{name}.{keyword.arg}"
            origins[keyword.arg] = place_at(names[keyword.arg], str(search.reading.path), known or keyword.value.lineno)
    for part, flag in flags.items():
        value: Any = int(flag) if part == "epochs" and flag.isdigit() else None
        if value is None:
            value = attribute(search.module, flag, target=search.target, reading=search.reading)
        recipe = dataclasses.replace(recipe, **{part: value})
        names[part] = flag
    return Found(recipe=recipe, names=names, notes=(), origins=origins)


def _recipe_call(tree: ast.Module, name: str) -> ast.Call | None:
    """The `Recipe(...)` call that a name is bound to, or that the function of that name returns."""
    for node in tree.body:
        within: ast.AST | None = None
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            within = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                within = node.value
        for call in ast.walk(within) if within is not None else ():
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "Recipe":
                return call
    return None


def _by_name(part: str, search: Search) -> None:
    held = vars(search.module)
    chosen: tuple[str, Any] | None = None
    for name in (*NAMES[part], *made_names(part)):
        if name not in held:
            continue
        value = held[name]
        why_not = _unusable(part, name, value)
        if why_not is not None:
            if why_not:
                search.unusable.setdefault(part, []).append(f"{name} {why_not}")
            continue
        if chosen is None:
            chosen = (name, value)
        elif value is not chosen[1] and part == "model" and _is_module(value) and _is_module(chosen[1]):
            search.notes.append(
                f"{name} ({type(value).__name__}) is a model too; `{FLAGS[part]} {name}` checks that one"
            )
    if chosen is None:
        return
    search.bind(part, *chosen)
    if chosen[0] in SECOND_BEST:
        search.notes.append(f"val_loader = {chosen[0]}: there is no validation loader, the test loader stands in")


def _unusable(part: str, name: str, value: Any) -> str | None:
    """None if a value can be this part; else why not, or "" where it plainly is something else."""
    import torch
    from torch import nn

    if isinstance(value, ModuleType) or value is None:
        return ""
    if inspect.isfunction(value) and part != "loss_fn" and not is_factory(part, value):
        if not name.startswith(MAKERS) and part not in (
            "model",
            "optimizer",
            "scheduler",
            "train_loader",
            "val_loader",
        ):
            return ""
        missing = [
            p.name
            for p in inspect.signature(value).parameters.values()
            if p.default is p.empty and p.name not in (*PARTS, "device", "params")
        ]
        return f"needs {', '.join(missing)}"
    if part == "model":
        return None if isinstance(value, nn.Module) or is_factory(part, value) else f"is {value!r:.40}"
    if part in ("train_loader", "val_loader"):
        if isinstance(value, (str, bytes, Mapping, torch.Tensor, nn.Module)):
            return f"is a {type(value).__name__}"
        iterable = hasattr(value, "__iter__") or hasattr(value, "__getitem__")
        return None if iterable or is_factory(part, value) else f"is {value!r:.40}"
    if part == "loss_fn":
        if callable(value) and not isinstance(value, torch.Tensor):
            return None
        return "" if name == "loss" else f"is {value!r:.40}"  # `loss` is as often the value as the function
    if part == "optimizer":
        ready = hasattr(value, "param_groups") and hasattr(value, "step")
    else:
        ready = hasattr(value, "step") and not inspect.isclass(value)
    if ready or is_factory(part, value):
        return None
    return f"is {value!r:.40}" if isinstance(value, (str, int, float, dict)) else ""


def _is_module(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _pairs(search: Search) -> None:
    """`train_loader, val_loader` from one function, called once when the recipe is assembled."""
    if "train_loader" in search.parts:
        return
    for name in (maker + pair for pair in LOADER_PAIRS for maker in MAKERS):
        value = vars(search.module).get(name)
        if value is not None and callable(value) and is_factory("train_loader", value):
            search.bind("train_loader", name, value)
            return


def _steps(search: Search) -> None:
    for name in NAMES["training_step"]:
        value = vars(search.module).get(name)
        if not inspect.isfunction(value) or not _is_step(value):
            continue
        node = search.reading.functions.get(name)
        part = "train_step" if node is not None and does_whole_step(node) else "training_step"
        if part not in search.parts:
            search.bind(part, name, value)


def _is_step(function: Any) -> bool:
    """Whether a function takes what a step is given: a batch, perhaps the model and the batch's index, nothing else."""
    takes = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    batch = [name for name in takes if name in BATCH_NAMES]
    parts = [name for part in ("model", "loss_fn", "optimizer", "scheduler") for name in NAMES[part]]
    return len(batch) == 1 and all(n in (*BATCH_NAMES, *INDEX_NAMES, *parts, *PARTS, *STEP_EXTRAS) for n in takes)


def _no_model(search: Search) -> TargetError:
    held = vars(search.module)
    tried = search.unusable.get("model", [])
    makers = [
        name
        for name, node in search.reading.functions.items()
        if node.returns is not None and "Recipe" in ast.unparse(node.returns) and callable(held.get(name))
    ]
    if makers:
        help = f"name the function that returns the recipe: `{search.target.text}:{makers[0]}`"
    else:
        help = (
            "bind the parts at module level (`model = ...`, `train_loader = ...`, `loss_fn = ...`, `optimizer = ...`) or "
            f"write functions that make them (`def build_model(): ...`); `nncheck init {search.file}` writes a start"
        )
    return TargetError(
        f"{search.file} has no model" + (f" that can be used: {'; '.join(tried[:4])}" if tried else ""),
        detail=f"looked for {', '.join(NAMES['model'])}, functions such as build_model, and the only nn.Module",
        help=help,
    )
