"""Where a script measures how good its model is: a loss function, or predictions compared with targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.interception import Patches
from nncheck.losses.call import KINDS


def watch_scores(scored: Callable[[], None]) -> None:
    """Have `scored` called before each call of a loss function of torch's and each comparison of two tensors, for good."""
    patches = Patches()
    functions: tuple[Callable[..., Any], ...] = tuple(KINDS)
    for function in functions:
        for module in (torch.nn.functional, torch):
            name = getattr(function, "__name__", "")
            if vars(module).get(name) is function:
                patches.put(module, name, _telling(function, scored))
    patches.put(torch, "eq", _telling(torch.eq, scored))
    for name in ("eq", "__eq__"):
        patches.put(Tensor, name, _telling(getattr(Tensor, name), scored))


def _telling(function: Callable[..., Any], scored: Callable[[], None]) -> Callable[..., Any]:
    def told(*args: Any, **kwargs: Any) -> Any:
        if (len(args) > 1 and isinstance(args[1], Tensor)) or "target" in kwargs or "other" in kwargs:
            scored()
        return function(*args, **kwargs)

    return told
