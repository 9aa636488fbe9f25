"""Train and eval mode, also of a module whose class calls something else `train`: a whole training, say."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn


def switches_mode(module: nn.Module) -> bool:
    """Whether `train` and `eval` of a module and of all inside it are what nn.Module means by them."""
    return all(_is_switch(type(m)) for m in module.modules())


def set_mode(module: nn.Module, training: bool) -> None:
    """`module.train(training)`; where an override means something else, the flags themselves."""
    if switches_mode(module):
        module.train(training)
        return
    for part in module.modules():
        part.training = training


def _is_switch(kind: Any) -> bool:
    """An override of `train` takes a mode, which has a default, and one of `eval` nothing."""
    if kind.train is nn.Module.train and kind.eval is nn.Module.eval:
        return True
    try:
        mode = [*inspect.signature(kind.train).parameters.values()][1:2]
        inspect.signature(kind.eval).bind(None)
    except (TypeError, ValueError):
        return False
    return bool(mode) and (
        mode[0].name == "mode" or isinstance(mode[0].default, bool) or mode[0].kind is mode[0].VAR_POSITIONAL
    )
