"""See what runs, not what is registered: every torch function called inside, with the layer it was called from.

A `TorchFunctionMode` sees functional calls (`F.relu`, `x.relu()`, `F.cross_entropy`) inside any framework's model; module
hooks alone miss them. Global module hooks beside it keep the stack of layer names; nothing is attached to the user's model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from nncheck.observe.source import calling_place
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a torch function, valid only inside the handler that is given it.

    `layer`: dotted name of the innermost running module of the watched model, "" for the model itself or outside of it.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    layer: str
    module: nn.Module | None

    @property
    def name(self) -> str:
        """The function's own name, e.g. `relu` for `F.relu`, `torch.relu` and `Tensor.relu` alike."""
        return getattr(self.function, "__name__", str(self.function))

    def place(self, detail: str = "") -> Place:
        """The user's line of the call."""
        return calling_place(self.layer or (type(self.module).__name__ if self.module else self.name), detail)


Handler = Callable[[Call], Any]
"""Called after each torch function; what it returns, unless None, replaces the function's result."""

ModuleHandler = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]
"""Called after each module's forward with its name, the module, its positional inputs and its output; what it returns,
unless None, replaces the output."""


class Watch(TorchFunctionMode):
    """Context manager: while active, handlers are told of every torch function and every module call of `model`."""

    def __init__(
        self, model: nn.Module, *, calls: Sequence[Handler] = (), modules: Sequence[ModuleHandler] = ()
    ) -> None:
        super().__init__()
        self._names = {id(module): name for name, module in model.named_modules(remove_duplicate=True)}
        self._calls = tuple(calls)
        self._modules = tuple(modules)
        self._stack: list[tuple[str, nn.Module]] = []
        self._hooks: list[Any] = []
        self._quiet = False

    @property
    def layer(self) -> str:
        """Name of the innermost running module."""
        return self._stack[-1][0] if self._stack else ""

    def __enter__(self) -> Watch:
        self._hooks = [
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's has no annotations
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        self._stack.clear()

    def _enter_module(self, module: nn.Module, _: Any) -> None:
        name = self._names.get(id(module))
        if name is not None:
            self._stack.append((name, module))

    def _leave_module(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        name = self._names.get(id(module))
        if name is None:
            return None
        while self._stack and self._stack.pop()[1] is not module:
            pass  # a module that left by an exception
        for handler in self._modules:
            self._quiet = True  # what a handler computes is none of the model's doing
            try:
                replaced = handler(name, module, inputs, output)
            finally:
                self._quiet = False
            if replaced is not None:
                output = replaced
        return output if self._modules else None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if self._quiet:
            return result
        layer, module = self._stack[-1] if self._stack else ("", None)
        self._quiet = True
        try:
            for handler in self._calls:
                call = Call(function=function, args=args, kwargs=kwargs, result=result, layer=layer, module=module)
                replaced = handler(call)
                if replaced is not None:
                    result = replaced
        finally:
            self._quiet = False
        return result
