"""Lists and mappings of names whose order is that of a set: another one in every process."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nncheck.lab.chance import reach
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.source import is_users
from nncheck.registry import probe

# One in 5,040 orders of seven names is a set's by chance. Fewer names are judged only where the code goes through a set in
# the set's own order.
LEAST_NAMES, FEW_NAMES = 7, 3
_THROUGH_A_SET = re.compile(r"\b(enumerate|list|tuple)\(\s*(set\(|\{[^{}:]*\bfor\b[^{}:]*\})")
# Names put in front by hand: `<pad>`, `[UNK]`.
_SPECIAL = re.compile(r"[<\[].*[>\]]|pad|unk|blank|bos|eos|background", re.IGNORECASE)
# Names that are hashed to neighbouring places push each other on, so that a set's order depends a little on who came first: a
# few neighbours stand the other way round. At most d of them do in fewer than (d + 1)^n of the n! orders (Eulerian numbers);
# as many are allowed as leave this chance.
CHANCE = 3e-4
MOST_NAMES = 100_000


@dataclass(frozen=True, kw_only=True)
class SetOrder:
    """A list or mapping in the order of a set. name: how it is reached; names: how many it holds; first: its first three."""

    name: str
    names: int
    first: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NameOrders:
    """Those found within reach of the set-up."""

    found: tuple[SetOrder, ...] = ()


@probe
def name_orders(sandbox: Sandbox) -> NameOrders:
    """Compare the order of names with that of a set of them in this very process."""
    if not sys.flags.hash_randomization:
        return NameOrders()
    setup = sandbox.setup
    roots = [
        (part, getattr(setup, part))
        for part in ("train_loader", "val_loader", "model", "loss_fn", "training_step", "train_step")
    ]
    roots += [("", module) for module in _modules_of(sandbox)]
    found: dict[tuple[str, ...], SetOrder] = {}
    through_a_set: bool | None = None
    for name, value in reach(roots):
        names = _ordered_names(value)
        if names is None or not in_set_order(names):
            continue
        if len(names) < LEAST_NAMES and through_a_set is None:
            through_a_set = any(_THROUGH_A_SET.search(text) for text in _sources(sandbox))
        if len(names) >= LEAST_NAMES or through_a_set:
            found.setdefault(tuple(names), SetOrder(name=name.strip("."), names=len(names), first=tuple(names[:3])))
    return NameOrders(found=tuple(found.values()))


def _sources(sandbox: Sandbox) -> list[str]:
    texts = []
    for module in _user_modules(sandbox):
        try:
            texts.append(inspect.getsource(module))
        except (OSError, TypeError):
            continue
    return texts


def _modules_of(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The globals of the user's files that the set-up comes from."""
    kinds = (dict, list, tuple)
    return [{n: v for n, v in vars(m).items() if isinstance(v, kinds)} for m in _user_modules(sandbox)]


def _user_modules(sandbox: Sandbox) -> list[Any]:
    files = {re.sub(r"^(\.\.[\\/])+", "", place.file) for place in sandbox.setup.origins.values() if place.file}
    names = {type(sandbox.model).__module__, type(getattr(sandbox.setup.train_loader, "dataset", None)).__module__}
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or "<unknown>"
        if is_users(file) and (name in names or any(file.endswith(end) for end in files)):
            found.append(module)
    return found


def _ordered_names(value: Any) -> list[str] | None:
    """The names in a list of names, or in a mapping of names to 0, 1, 2... (or back), in that order."""
    if isinstance(value, dict) and dict.__len__(value) <= MOST_NAMES:
        value = dict.copy(value)  # past the methods of its own class, which may import half a library
    if not isinstance(value, (list, tuple, dict)) or not FEW_NAMES <= len(value) <= MOST_NAMES:
        return None
    if isinstance(value, dict):
        if all(isinstance(k, int) for k in value) and sorted(value) == list(range(len(value))):
            value = [value[i] for i in range(len(value))]
        elif all(isinstance(v, int) for v in value.values()):
            # A mapping may keep places for padding and unknown words, in front of the others.
            value = sorted(value, key=lambda k: value[k])
        else:
            return None
    return list(value) if all(isinstance(item, str) for item in value) and len(set(value)) == len(value) else None


def in_set_order(names: Sequence[str]) -> bool:
    """Whether names stand in the order in which a set of them is iterated, and in no order that a person gave them."""
    if list(names) == sorted(names) or list(names) == sorted(names, reverse=True):
        return False
    rest = list(names)
    while rest and _SPECIAL.fullmatch(rest[0]):
        rest.pop(0)
    if len(rest) < FEW_NAMES or rest == sorted(rest):
        return False
    backwards = rest[::-1]  # who comes first takes the place that two names want
    for made in (set(rest), set(names), set(backwards)):
        place = {name: index for index, name in enumerate(made)}
        pairs = [place[a] < place[b] for a, b in pairwise(rest)]
        descents = len(pairs) - sum(pairs)
        if not descents or len(rest) * math.log(descents + 1) - math.lgamma(len(rest) + 1) < math.log(CHANCE):
            return True
    return False
