"""The line for a finding that has none of its own: where the part of the set-up that it is about is made."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import linecache
import os
from typing import Any

from nncheck.observe.source import class_place, is_users, place_at
from nncheck.recipe import Setup
from nncheck.verdict import Place, Status, Verdict

# What a LightningModule makes its parts in.
_METHODS = {
    "optimizer": "configure_optimizers",
    "scheduler": "configure_optimizers",
    "train_loader": "train_dataloader",
    "val_loader": "val_dataloader",
    "loss_fn": "training_step",
}


def pointed(verdict: Verdict, part: str, setup: Setup, asked_at: Place | None = None) -> Verdict:
    """A finding without any line of the user's, at the one that makes the part: the constructor's call, or the model's class.

    Where that is not known: the model, then any other part, then the line that asked.
    """
    if verdict.status not in (Status.WARN, Status.FAIL) or any(place.line for place in verdict.places):
        return verdict
    parts = (part, "train_loader") if part == "val_loader" else (part,)
    known = [*(_made_at(name, setup) for name in (*parts, "model", *setup.origins)), asked_at]
    spot = next((place for place in known if place is not None and place.line), None)
    return verdict if spot is None else dataclasses.replace(verdict, places=(spot, *verdict.places))


def _made_at(part: str, setup: Setup) -> Place | None:
    made = getattr(setup, part, None)
    origin = setup.origins.get(part)
    if part == "model":
        place = class_place(setup.model, type(setup.model).__name__)
        return place if place.line else origin
    if origin is not None and origin.file is not None and origin.line is not None:
        # The path of a place is seen from the working directory.
        return _call_in(origin.file, origin.line, made, origin.name) or origin
    method = getattr(type(setup.model), _METHODS.get(part, ""), None)
    code = getattr(inspect.unwrap(method) if callable(method) else None, "__code__", None)
    if code is None or not is_users(code.co_filename):
        return origin
    first = code.co_firstlineno
    return _call_in(code.co_filename, first, made, part) or place_at(part, code.co_filename, first)


def _call_in(file: str, line: int, made: Any, name: str) -> Place | None:
    """The call that makes an object of this kind in the function or class that is defined on a line."""
    try:
        tree = ast.parse("".join(linecache.getlines(os.path.abspath(file))))
    except (SyntaxError, ValueError, RecursionError):
        return None
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if line in (node.lineno, *(decorator.lineno for decorator in node.decorator_list)):
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == type(made).__name__:
                    return place_at(name, file, call.lineno)
    return None
