"""What is patched while a script runs: its loaders, `backward`, its optimizers' steps, its calls of modules, what it writes."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.process
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._device import _device_constructors
from torch.utils.data import DataLoader

from nncheck.capture.calls import target_of
from nncheck.capture.early import watch_early
from nncheck.capture.files import watch_files
from nncheck.capture.frameworks.tidy import tidy
from nncheck.capture.record import frames_within
from nncheck.capture.taps import Tap
from nncheck.lab.interception import Patches, closure_given, kinds_of
from nncheck.lab.workers import in_process
from nncheck.losses.call import KINDS
from nncheck.observe.source import calling_place, is_users

if TYPE_CHECKING:
    from nncheck.capture.script import Script

# Loggers that would open a run on a server: each has a variable that keeps it quiet.
_QUIET_LOGGERS = {
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "debug",
    "SWANLAB_MODE": "disabled",
}

_FACTORIES = (
    "tensor", "as_tensor", "zeros", "ones", "empty", "full", "rand", "randn", "randint", "randperm", "arange", "linspace",
    "eye", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "from_numpy", "logspace",
)  # fmt: skip


@contextlib.contextmanager
def patched(script: Script, *, cpu: bool) -> Iterator[None]:
    """Everything the script does that matters goes by `script`; afterwards all is as before. `cpu`: no GPU is to be used."""
    patches = Patches()
    environment = dict(os.environ)
    os.environ.update({name: value for name, value in _QUIET_LOGGERS.items() if name not in environment})
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    hooks = []
    try:
        _loaders(script, patches)
        _backward(script, patches)
        _places(script, patches)
        watch_early(script, patches, cpu=cpu)
        watch_files(script, patches)
        _processes(script, patches)
        _calls(script, patches)
        _scripting(patches)
        _compiling(patches)
        _losses(script, patches)
        if cpu or not torch.cuda.is_available():
            _no_gpu(script, patches)
        hooks = [
            register_optimizer_step_pre_hook(
                lambda optimizer, args, kwargs: _stepping(script, optimizer, args, kwargs)
            ),
            register_optimizer_step_post_hook(lambda optimizer, args, kwargs: script.stepped(optimizer)),
        ]
        yield
    finally:
        for hook in hooks:
            hook.remove()
        script.no_more_losses()
        if "torch._dynamo" in sys.modules:
            torch.compiler.set_stance("default")
        patches.take_back()
        tidy(script)
        script.overlay.close()
        os.environ.clear()
        os.environ.update(environment)


def _stepping(script: Script, optimizer: Any, arguments: Any, options: Any) -> None:
    closure = closure_given(arguments, options)
    script.stepping(optimizer, closure=closure)


def _loaders(script: Script, patches: Patches) -> None:
    """Every class of loaders with an `__iter__` of its own (accelerate's fetch one batch ahead: theirs is the one that counts).

    Most are not there yet: a library's is seen when it makes the DataLoader that it stands for.
    """
    begun: Any = DataLoader.__iter__
    made = DataLoader.__init__
    known: set[type] = set()

    def wrapped(iterate: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Any]:
        def __iter__(loader: Any) -> Any:
            if script.mode not in ("record", "replay", "onward"):
                return iterate(loader)
            if script.iterating:
                return begun(in_process(loader)) if iterate is begun else iterate(loader)
            if script.mode == "onward":
                script.watcher.begun(loader)
            return Tap(script, loader, _own_iterator(script, loader, iterate, begun))

        return __iter__

    def tap(kind: type) -> None:
        owner = next((k for k in kind.__mro__ if "__iter__" in vars(k)), None)
        if owner is not None and owner not in known and owner.__module__ != "builtins":
            known.add(owner)
            patches.put(owner, "__iter__", wrapped(vars(owner)["__iter__"]))

    @functools.wraps(made)
    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        frame = next(frames_within(None))
        owner = frame.f_locals.get("self") if frame.f_code.co_name == "__init__" else None
        if issubclass(type(owner), DataLoader) or not is_users(frame.f_code.co_filename):
            tap(type(owner))
        made(self, *args, **kwargs)

    for kind in kinds_of(DataLoader):
        tap(kind)
    patches.put(DataLoader, "__init__", begin)


def _own_iterator(script: Script, loader: Any, iterate: Any, begun: Any) -> Iterator[Any]:
    script.iterating = True  # a loader inside this one is its own affair
    try:
        found: Iterator[Any] = begun(in_process(loader)) if iterate is begun else iter(iterate(loader))
    finally:
        script.iterating = False
    return found


def _calls(script: Script, patches: Patches) -> None:
    real = nn.Module.__call__

    def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:
        script.entering(module, args, kwargs)
        output = None
        try:
            output = real(module, *args, **kwargs)
        finally:
            script.leaving(module, output)
        return output

    patches.put(nn.Module, "__call__", __call__)


def _losses(script: Script, patches: Patches) -> None:
    """Targets are seen where a loss is called; only until the first step, for torch knows its loss functions by identity."""
    own = Patches()
    for function in KINDS:
        for module in (torch.nn.functional, torch):
            name = getattr(function, "__name__", "")
            if vars(module).get(name) is not function:
                continue

            def scored(*args: Any, function: Any = function, **kwargs: Any) -> Any:
                if script.mode == "record":
                    target = target_of(function, args, kwargs)[1]
                    if target is not None:
                        script.scoring(target)
                return function(*args, **kwargs)

            own.put(
                module, name, functools.update_wrapper(scored, vars(module)[name])
            )  # some register losses by their names
    script.no_more_losses = own.take_back


def _scripting(patches: Patches) -> None:
    """TorchScript compiles what stands under torch's names, and knows torch's own functions only: it is given these meanwhile."""
    real = torch.jit.script
    names = [(torch, name, getattr(torch, name)) for name in _FACTORIES]
    for function in KINDS:
        name = getattr(function, "__name__", "")
        names += [(m, name, function) for m in (torch.nn.functional, torch) if vars(m).get(name) is function]

    def compiled(*args: Any, **kwargs: Any) -> Any:
        own = Patches()
        for owner, name, function in names:
            own.put(owner, name, function)
        try:
            # Names are looked up in the frame of who calls it.
            return real(*args, **kwargs | {"_frames_up": kwargs.get("_frames_up", 0) + 1})
        finally:
            own.take_back()

    patches.put(torch.jit, "script", compiled)


def _compiling(patches: Patches) -> None:
    """What the script compiles runs as it is written: the compiler would trace our looking on as part of it."""
    real: Any = torch.compile

    @functools.wraps(real)
    def compiled(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.set_stance("force_eager")
        return real(*args, **kwargs)

    patches.put(torch, "compile", compiled)


def _backward(script: Script, patches: Patches) -> None:
    real: Any = Tensor.backward
    scale, several = torch.amp.GradScaler.scale, torch.autograd.backward
    unscaled: dict[int, Tensor] = {}
    depth = 0

    def backward(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        loss = unscaled.pop(id(tensor), tensor)
        unscaled.clear()
        if not depth and not script.lossy(loss):
            return None
        depth += 1
        try:
            return real(tensor, *args, **kwargs)
        finally:
            depth -= 1

    def backwards(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if not depth:
            for tensor in [tensors] if isinstance(tensors, Tensor) else tensors:
                script.lossy(tensor)
        return several(tensors, *args, **kwargs)

    def scaled(scaler: Any, outputs: Any) -> Any:
        result = scale(scaler, outputs)
        if script.mode == "record" and isinstance(outputs, Tensor):
            unscaled[id(result)] = outputs  # the loss is what the user wrote, not 65,536 times it
        return result

    patches.put(Tensor, "backward", backward)
    patches.put(torch.autograd, "backward", backwards)
    patches.put(torch.amp.GradScaler, "scale", scaled)


def _places(script: Script, patches: Patches) -> None:
    """Where the user's lines make optimizers, loaders and schedules."""
    for kind in (Optimizer, DataLoader, LRScheduler):
        made = kind.__init__

        @functools.wraps(made)  # Lightning reads the signature to make a loader once more
        def begin(self: Any, *args: Any, made: Any = made, **kwargs: Any) -> None:
            if script.mode in ("record", "onward") and id(self) not in script.record.made:
                script.record.made[id(self)] = calling_place(type(self).__name__)
            made(self, *args, **kwargs)

        patches.put(kind, "__init__", begin)


def _processes(script: Script, patches: Patches) -> None:
    start = multiprocessing.process.BaseProcess.start

    def begin(process: Any) -> None:
        if script.mode in ("record", "onward"):
            script.starts_process()
        start(process)

    patches.put(multiprocessing.process.BaseProcess, "start", begin)


def _no_gpu(script: Script, patches: Patches) -> None:
    """Without a GPU, what moves to one stays where it is: one script in six moves unconditionally."""

    def active() -> bool:
        return script.mode != "off"

    for owner in (Tensor, nn.Module):
        real, move = owner.cuda, owner.to

        def cuda(self: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            return self if active() else real(self, *args, **kwargs)

        def to(self: Any, *args: Any, move: Any = move, **kwargs: Any) -> Any:
            if active():
                args = tuple(_here(a) for a in args)
                kwargs = {key: _here(value) for key, value in kwargs.items()}
            return move(self, *args, **kwargs)

        patches.put(owner, "cuda", cuda)
        patches.put(owner, "to", to)
    patches.put(Tensor, "pin_memory", lambda self, *_, **__: self)
    # `with torch.device(...)` knows functions by identity, and looks them up once: before others stand in their places.
    _device_constructors()
    for name in _FACTORIES:
        real = getattr(torch, name)

        def make(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            if "device" in kwargs and active():
                kwargs["device"] = _here(kwargs["device"])
            return real(*args, **kwargs)

        patches.put(torch, name, make)
    for name in ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats"):
        patches.put(torch.cuda, name, lambda *_, **__: None)


def _here(value: Any) -> Any:
    if isinstance(value, (str, torch.device)) and str(value).startswith("cuda"):
        return torch.device("cpu")
    if isinstance(value, int) and not isinstance(value, bool):  # `.to(0)` is a GPU's number
        return torch.device("cpu")
    return value
