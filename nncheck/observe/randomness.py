"""Which random functions run in a forward pass, where, and why: dropout, noise that is added, weights made anew."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.observe.source import is_users
from nncheck.observe.watch import Call
from nncheck.verdict import Place

DROPOUTS = {
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout,
    torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout,
}  # fmt: skip
_DRAWN = {
    "randperm", "rand", "randn", "rand_like", "randn_like", "bernoulli", "normal", "normal_", "uniform_", "bernoulli_",
}  # fmt: skip
_KEPT = {
    "mul", "__mul__", "__rmul__", "mul_", "div", "__truediv__", "div_", "neg", "__neg__", "sub", "__sub__", "__rsub__", "to",
    "type", "view", "reshape", "unsqueeze", "expand", "expand_as", "float", "type_as", "clone", "round", "clamp",
}  # fmt: skip
_PICKED = {"__getitem__", "index_select", "gather", "take_along_dim"}
_CUT = {"__gt__", "gt", "__lt__", "lt", "__ge__", "ge", "__le__", "le", "floor", "floor_"}
_PRODUCTS = {"mul", "__mul__", "__rmul__", "mul_", "masked_fill", "masked_fill_", "where"}
_SUMS = {"add", "__add__", "__radd__", "add_", "__iadd__"}

DECLARED = re.compile(
    r"\bmc\b|mc[_\s-]?(dropout|sampl|forward)|\bMC(?=[A-Z])|monte[\s_-]?carlo|bayes|uncertain|on purpose|deliberate|"
    r"intention|posterior|ensembl|prenet|variational",
    re.IGNORECASE,
)
"""Words by which an author says that the randomness is meant at test time too."""


@dataclass(frozen=True, kw_only=True)
class RandomUse:
    """One random function that is active in a forward pass.

    kind: "dropout"; "noise": drawn numbers of a fixed size are added to activations; "mask": activations are multiplied by a
    random mask; "made": a layer or parameter is made and initialised in the pass; "drawn": anything else.
    because: of a dropout: "default" its `training` argument is left out, "asked" it is written as True, "wrong" it is
    something else that is true; "stray" its module belongs to no module of the model; "stuck" its module is in train mode;
    "library" a library calls it. declared: the author's words that it is meant, "" if there are none.
    """

    kind: Literal["dropout", "noise", "mask", "made", "drawn"]
    function: str
    because: str
    rate: float
    declared: str
    place: Place


class Randomness:
    """Handler for a watch: collects `RandomUse`s and dropout rates. Use one for one pass."""

    def __init__(self, model: nn.Module) -> None:
        self._registered = {id(module) for module in model.modules()}
        self._tracked: dict[int, tuple[Tensor, bool, Call, Place]] = {}
        self._seen: set[tuple[str, Place]] = set()
        self.uses: list[RandomUse] = []
        self.rates: dict[str, tuple[float, Place]] = {}

    def __call__(self, call: Call) -> None:
        if call.module is None or self._dropout(call):
            return  # what a step draws around the model is its own affair
        name = call.name
        result = call.result
        if name in _DRAWN:
            if isinstance(result, nn.Parameter):
                self._add("made", call, call.place())
            elif isinstance(result, Tensor) and _directly():
                self._tracked[id(result)] = (result, name.startswith("bernoulli"), call, call.place())
            return
        if self._tracked and isinstance(result, Tensor):
            self._follow(call, result)

    def _follow(self, call: Call, result: Tensor) -> None:
        """What becomes of drawn numbers: scaled by something learned they are a sample, added or multiplied they disturb."""
        given = [a for a in (*call.args, *call.kwargs.values()) if isinstance(a, Tensor)]
        held = [self._tracked[id(a)] for a in given if id(a) in self._tracked]
        if not held:
            return
        _, mask, source, place = held[0]
        others = [a for a in given if id(a) not in self._tracked]
        name = call.name
        learned = any(a.requires_grad for a in others)
        if name in _PICKED:  # rows in another order are as random as the order
            self._tracked[id(result)] = (result, mask, source, place)
            return
        if name in _CUT and not learned:
            self._tracked[id(result)] = (result, True, source, place)
        elif mask and name in _PRODUCTS and others:
            self._add("mask", source, place)
        elif name in _SUMS and others:
            self._add("noise" if not mask else "drawn", source, place)
        elif (name in _KEPT or name in _SUMS) and not learned:
            self._tracked[id(result)] = (result, mask, source, place)

    def _dropout(self, call: Call) -> bool:
        """Whether the function is a dropout; its rate is recorded, and itself if it is active."""
        if call.function in DROPOUTS:
            rate, active = _argument(call, 1, "p", 0.5), _argument(call, 2, "training", True)
            if call.name in ("dropout", "feature_dropout") and "train" in call.kwargs:
                active = call.kwargs["train"]
        elif call.function is F.scaled_dot_product_attention:
            rate, active = _argument(call, 4, "dropout_p", 0.0), True
        elif call.function is F.multi_head_attention_forward:
            rate, active = _argument(call, 10, "dropout_p", 0.0), _argument(call, 13, "training", True)
        elif call.name in ("lstm", "gru", "rnn_tanh", "rnn_relu") and len(call.args) >= 9:
            # (..., bias, layers, dropout, train, bidirectional[, batch_first]): packed sequences have one argument more before.
            first = 5 if isinstance(call.args[5], float) else 6
            layers, rate, active = call.args[first - 1], call.args[first], call.args[first + 1]
            rate = rate if layers > 1 else 0.0
        else:
            return False
        if not isinstance(rate, (int, float)):
            return True
        attention = call.function is F.scaled_dot_product_attention
        # Attention takes its rate only while it is to be applied.
        if 0 < rate < 1 and (active or not attention):
            place = call.place()
            self.rates.setdefault(place.name, (float(rate), place))
            if active:
                self._active(call, float(rate), place)
        return True

    def _active(self, call: Call, rate: float, place: Place) -> None:
        module = running_module()
        words = _declared(place, module)
        if module is not None and id(module) not in self._registered:
            because = "stray"
        elif module is not None and module.training:
            because = "stuck"
        elif module is not None or place.file is None or not _directly():
            because = "library"
        elif call.function is F.scaled_dot_product_attention:
            because = "default"
        else:
            because = _written(place)
        self._add("dropout", call, place, because=because, rate=rate, declared=words)

    def _add(
        self, kind: Any, call: Call, place: Place, *, because: str = "", rate: float = 0.0, declared: str | None = None
    ) -> None:
        if (kind, place) in self._seen:
            return
        self._seen.add((kind, place))
        words = _declared(place, None) if declared is None else declared
        self.uses.append(
            RandomUse(kind=kind, function=call.name, because=because, rate=rate, declared=words, place=place)
        )


def _argument(call: Call, position: int, name: str, default: Any) -> Any:
    if name in call.kwargs:
        return call.kwargs[name]
    return call.args[position] if len(call.args) > position else default


def running_module() -> nn.Module | None:
    """The library's module whose forward called the function that is being handled, if it was one."""
    frame = sys._getframe(1)
    for _ in range(12):
        back = frame.f_back
        if back is None:
            return None
        frame = back
        file = frame.f_code.co_filename
        if is_users(file):
            return None
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "forward" and isinstance(owner, nn.Module):
            return owner
    return None


def _directly() -> bool:
    """Whether the user's own line called the torch function, and no library in between."""
    frame = sys._getframe(3)
    torchs = str(Path(torch.__file__).parent)
    ours = str(Path(__file__).parent.parent)
    while frame is not None:
        file = frame.f_code.co_filename
        if is_users(file):
            return True
        if not file.startswith((torchs, ours, "<")):
            return False
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _written(place: Place) -> str:
    """How the `training` argument of the dropout on this line is written."""
    for node in _dropouts_on(place.file or "", place.line or 0):
        given = next((k.value for k in node.keywords if k.arg in ("training", "train")), None)
        if given is None and len(node.args) > 2:
            given = node.args[2]
        if given is None:
            return "default"
        return "asked" if isinstance(given, ast.Constant) else "wrong"
    return "asked"


def _dropouts_on(file: str, line: int) -> list[ast.Call]:
    found = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or node.lineno):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if "dropout" in name.lower():
                found.append(node)
    return found


@cache
def _tree(file: str) -> ast.AST:
    try:
        return ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _declared(place: Place, module: nn.Module | None) -> str:
    """The author's words, in the class and function around the line, that the randomness is meant."""
    texts = [] if module is None else [type(module).__name__]
    if place.file is not None and place.line is not None:
        texts.append(_around(place.file, place.line))
    for text in texts:
        found = DECLARED.search(text)
        if found:
            return found.group(0)
    return ""


@cache
def _around(file: str, line: int) -> str:
    """What is written of a line: its outermost class, with the comments above it, and the docstrings of functions around it."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    around = [
        node
        for node in ast.walk(_tree(file))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    texts = [ast.get_docstring(node) or "" for node in around]
    owner = next((node for node in around if isinstance(node, ast.ClassDef)), around[0] if around else None)
    if owner is not None:
        first = min([owner.lineno, *(d.lineno for d in owner.decorator_list)]) - 1
        while first > 0 and lines[first - 1].lstrip().startswith("#"):
            first -= 1
        texts.append("\n".join(lines[first : owner.end_lineno]))
    return "\n".join(texts)


def meant_by_model(model: nn.Module) -> str:
    """The words in the model's own class that its randomness is meant, where the user wrote it."""
    kind = type(model)
    try:
        file = inspect.getsourcefile(kind)
        if file is None or not is_users(file):
            return ""
        text = inspect.getsource(kind)
    except (OSError, TypeError):
        text = kind.__name__
    found = DECLARED.search(text)
    return found.group(0) if found else ""
