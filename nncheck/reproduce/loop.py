"""The script's own loop, run as it is for a while: modes, schedules, graphs, seeds and waits, as they come."""

from __future__ import annotations

import collections
import itertools
import sys
import weakref
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from nncheck.reproduce.setup import patched
from nncheck.reproduce.steps import Enough, Steps

MODAL = ("Dropout", "BatchNorm", "AlphaDropout", "DropPath")


def train_eval_mode(steps: Steps) -> bool:
    """The mode of the model at each of its calls: with gradients it trains, without it validates."""
    depth, calls = [0], collections.Counter[tuple[bool, bool]]()

    def enter(module: Any, _: Any) -> None:
        if depth[0] == 0 and any(name in type(m).__name__ for m in module.modules() for name in MODAL):
            calls[torch.is_grad_enabled(), module.training] += 1
        depth[0] += 1

    def leave(*_: Any) -> None:
        depth[0] -= 1

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    steps(500)
    for handle in handles:
        handle.remove()
    for (grad, training), number in sorted(calls.items()):
        print(f"{number} calls {'with' if grad else 'without'} gradients in {'train' if training else 'eval'} mode")
    return calls[True, False] > 1 or calls[False, True] > 1


def scheduler_step(steps: Steps) -> bool:
    """The order in which optimizer and schedule step."""
    order: list[str] = []
    made: list[Any] = []
    kind = torch.optim.lr_scheduler.LRScheduler
    start = kind.__init__

    def begin(schedule: Any, *args: Any, **kwargs: Any) -> None:
        start(schedule, *args, **kwargs)
        made.append(type(schedule).__name__)
        order.clear()  # a schedule steps once while it is made

    def step(schedule: Any, *args: Any, **kwargs: Any) -> None:
        order.append("schedule")
        stepped(schedule, *args, **kwargs)

    handle = register_optimizer_step_post_hook(lambda *_: order.append("optimizer"))
    with patched(kind, "__init__", begin), patched(kind, "step", step) as stepped:
        steps(500)
    handle.remove()
    taken = order.count("schedule")
    print(f"{', '.join(made) or 'no schedule'}: {taken} steps of it in {order.count('optimizer')} of the optimizer")
    print("in order:", ", ".join(order[:8]), "...")
    twice = sum(a == b == "schedule" for a, b in itertools.pairwise(order))
    return bool(made) and (taken == 0 or order[0] == "schedule" or twice > 1 or taken >= order.count("optimizer") > 100)


def optimizer_replaced(steps: Steps) -> bool:
    """How many optimizers step, one after the other."""
    seen: dict[int, Any] = {}
    taken = [0]

    def note(optimizer: Any, *_: Any) -> None:
        seen[id(optimizer)] = optimizer  # kept, so that no other gets its number
        taken[0] += 1

    handle = register_optimizer_step_pre_hook(note)
    steps(200)
    handle.remove()
    weights = [{id(p) for group in o.param_groups for p in group["params"]} for o in seen.values()]
    same = sum(a == weights[0] for a in weights) - 1
    idle = sum(p.grad is None for o in seen.values() for group in o.param_groups for p in group["params"])
    print(f"{len(seen)} optimizers take {taken[0]} steps; {same} of them hold the weights of the first")
    print(f"{idle} of the tensors that they hold have no gradient")
    return same > 0 or len(seen) > 4 or idle > 0


def graph_retention(steps: Steps) -> bool:
    """How many graphs of past losses are alive."""

    class Mark:
        pass

    marks: list[Any] = []
    alive: list[int] = []

    def backward(loss: Any, *args: Any, **kwargs: Any) -> None:
        alive.append(sum(mark() is not None for mark in marks))
        if loss.grad_fn is not None:
            mark = loss.grad_fn.metadata["mark"] = Mark()
            marks.append(weakref.ref(mark))
            del mark
        back(loss, *args, **kwargs)

    with patched(torch.Tensor, "backward", backward) as back:
        steps(40)
    print("graphs of past losses that are alive, from step to step:", ", ".join(map(str, alive)))
    return max(alive, default=0) > 5


def host_sync(steps: Steps) -> bool:
    """Which lines ask for a value of a tensor, and how often a step."""
    lines = collections.Counter[str]()
    taken = [0]

    def noting(name: str, original: Any) -> Any:
        def ask(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            if tensor.grad_fn is not None or tensor.numel() == 1:
                lines[f"{frame.f_code.co_filename}:{frame.f_lineno} .{name}()"] += 1
            return original(tensor, *args, **kwargs)

        return ask

    handle = register_optimizer_step_pre_hook(lambda *_: taken.__setitem__(0, taken[0] + 1))
    kept = {name: getattr(torch.Tensor, name) for name in ("item", "tolist", "__float__", "__int__", "__bool__")}
    for name, original in kept.items():
        setattr(torch.Tensor, name, noting(name, original))
    try:
        steps(100)
    finally:
        for name, original in kept.items():
            setattr(torch.Tensor, name, original)
        handle.remove()
    own = {line: number for line, number in lines.most_common() if "site-packages" not in line}
    for line, number in list(own.items())[:3]:
        print(f"{line}: {number} times in {taken[0]} steps")
    return max(own.values(), default=0) >= 16 * max(1, taken[0] // 2)


def late_seed(steps: Steps) -> bool:
    """The weights at the first step, from two states of the random numbers before the script begins."""
    found: list[list[Any]] = []

    def look(optimizer: Any, *_: Any) -> None:
        found.append([p.detach().clone() for group in optimizer.param_groups for p in group["params"]])
        raise Enough

    for number in (1, 2):
        torch.manual_seed(number)
        handle = register_optimizer_step_pre_hook(look)
        steps(1)
        handle.remove()
    unlike = sum(not torch.equal(a, b) for a, b in zip(*found, strict=True))
    print(f"{unlike} of {len(found[0])} weight tensors differ from run to run")
    return unlike > 0


def validation_data(steps: Steps) -> bool:
    """Which data each loader draws, and in which of its passes the optimizer steps."""
    passes: list[dict[str, Any]] = []

    def begin(loader: Any) -> Any:
        passes.append({"loader": loader, "steps": 0})
        return begun(loader)

    def count(*_: Any) -> None:
        if passes:
            passes[-1]["steps"] += 1

    handle = register_optimizer_step_pre_hook(count)
    with patched(DataLoader, "__iter__", begin) as begun:
        steps(500)
    handle.remove()
    trained = {id(p["loader"].dataset) for p in passes if p["steps"]}
    again = [p for p in passes if not p["steps"] and id(p["loader"].dataset) in trained]
    loaders = {id(p["loader"]): p["loader"] for p in passes}
    for number, loader in enumerate(loaders.values(), start=1):
        runs = [p["steps"] for p in passes if p["loader"] is loader]
        print(
            f"loader {number}: {len(loader.dataset)} items of data {id(loader.dataset)}, optimizer steps a pass: {runs[:4]}"
        )
    several = sum(any(p["steps"] for p in passes if p["loader"] is loader) for loader in loaders.values())
    return bool(again) or (len(loaders) > 1 and several == len(loaders))
