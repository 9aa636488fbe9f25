"""The training step as it is written: what goes back, is clipped, steps and is cleared, in which order."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nncheck.reproduce.setup import LOSSES, Calls, SetUp, leaves, patched, seed, take

SEED = 0

Steps = Callable[[int], Any]
"""Takes about so many training steps, as they are written."""


class Enough(BaseException):
    """Ends a script."""


@dataclass
class Event:
    """`grads`: whether there was any gradient but 0 before. backward: `value` is its loss, `part` that of torch's last loss
    function. clip: the norm and the limit."""

    kind: str
    grads: bool
    value: float = 0.0
    part: float = 0.0


def steps_of(make: Callable[[], SetUp]) -> Steps:
    """Steps of the file's own train_step; the file is loaded for them, so that all it calls is seen."""

    def run(number: int) -> None:
        setup = make()
        assert setup.train_step is not None
        setup.model.train()
        for index, batch in enumerate(take(setup.train_loader, number)):
            setup.train_step(batch, index)

    return run


def steps_of_script(file: str, arguments: list[str]) -> Steps:
    """Steps of a script: it is run as it is, and ended after so many."""

    def run(number: int) -> None:
        left = [number]

        def count(*_: Any) -> None:
            if left[0] == 0:
                raise Enough
            left[0] -= 1

        sys.argv = [file, *arguments]
        sys.path.insert(0, str(Path(file).resolve().parent))
        handle = register_optimizer_step_pre_hook(count)
        try:
            runpy.run_path(file, run_name="__main__")
        except (Enough, SystemExit):
            pass
        finally:
            handle.remove()

    return run


def names_at_first_step(file: str, arguments: list[str]) -> dict[str, Any]:
    """Runs a script up to its first optimizer step and ends it there: every name that it has on its way, the innermost last."""
    folder, names = str(Path(file).resolve().parent), dict[str, Any]()

    def look(optimizer: Any, *_: Any) -> None:
        frames, frame = [], inspect.currentframe()
        while frame is not None:
            if str(Path(frame.f_code.co_filename).resolve()).startswith(folder):
                frames.append(frame)
            frame = frame.f_back
        for frame in reversed([f for f in frames if f.f_globals is not globals()]):
            names.update({**frame.f_globals, **frame.f_locals} if not names else frame.f_locals)
        raise Enough

    seed(SEED)
    handle = register_optimizer_step_pre_hook(look)
    sys.argv = [file, *arguments]
    sys.path.insert(0, folder)
    try:
        runpy.run_path(file, run_name="__main__")
    except Enough:
        return names
    finally:
        handle.remove()
    raise SystemExit(f"{file} ended before its first optimizer step")


def at_first_step(file: str, arguments: list[str]) -> None:
    """Where nothing more is known: the script at its first step, for a person to go on from, with `python -i`."""
    names = names_at_first_step(file, arguments)
    for name, value in names.items():
        if isinstance(value, (nn.Module, torch.optim.Optimizer, torch.utils.data.DataLoader)):
            print(f"{name} = {type(value).__name__}")
    globals()["names"] = names
    print("The script stands before its first optimizer step: `python -i reproduce.py`, then look at names[...].")


def watch(steps: Steps, number: int) -> tuple[list[Event], list[tuple[Any, Any]]]:
    """What happens during so many steps, in order; and the weights as they are, and as they were at the first backward pass."""
    events: list[Event] = []
    weights: list[tuple[Any, Any]] = []
    calls, inside = Calls(*LOSSES), list[bool]()

    def note(kind: str, value: float = 0.0, part: float = 0.0) -> None:
        grads = any(p.grad is not None and bool(p.grad.any()) for p, _ in weights)
        events.append(Event(kind, grads, value, part))

    def backward(loss: Any, *args: Any, **kwargs: Any) -> None:
        if inside:  # torch calls it once more, for the calls that are noted
            back(loss, *args, **kwargs)
            return
        if not weights:
            weights.extend((p, p.detach().clone()) for p in leaves(loss))
        note("backward", float(loss.detach()), float(calls.seen[-1][3].detach().mean()) if calls.seen else 0.0)
        if sum(e.kind == "backward" for e in events) > 8 * number:
            raise Enough
        inside.append(True)
        back(loss, *args, **kwargs)
        inside.clear()

    def clip(parameters: Any, limit: Any, *args: Any, **kwargs: Any) -> Any:
        norm = cut(parameters, limit, *args, **kwargs)
        note("clip", float(norm), float(limit))
        return norm

    def cleared(owner: Any, *args: Any, **kwargs: Any) -> None:
        note("zero_grad")
        (clear if isinstance(owner, torch.optim.Optimizer) else clear_model)(owner, *args, **kwargs)

    handle = register_optimizer_step_pre_hook(lambda *_: note("step"))
    try:
        with (
            patched(torch.Tensor, "backward", backward) as back,
            patched(nn.utils, "clip_grad_norm_", clip) as cut,
            patched(torch.optim.Optimizer, "zero_grad", cleared) as clear,
            patched(nn.Module, "zero_grad", cleared) as clear_model,
            calls,
        ):
            steps(number)
    except Enough:
        pass
    finally:
        handle.remove()
    print("in order:", ", ".join(event.kind for event in events[:12]), "...")
    return events, weights


def optimizer_step(steps: Steps) -> bool:
    """Whether eight training steps change the weights, and down the loss."""
    events, weights = watch(steps, 8)
    moved = [float((p.detach() - before).norm()) for p, before in weights]
    passes, taken = (sum(e.kind == kind for e in events) for kind in ("backward", "step"))
    print(f"{sum(size > 0 for size in moved)} of {len(moved)} weight tensors have changed after {passes} backward passes "
          f"and {taken} steps")  # fmt: skip
    values = [e.value for e in events if e.kind == "backward"]
    print("the losses:", ", ".join(f"{value:.4g}" for value in values[:8]))
    return not any(moved) or (len(values) > 1 and values[-1] < values[0] < 0)


def zero_grad(steps: Steps) -> bool:
    """Whether gradients that a step has used are still there at the next backward pass, or gone before the step."""
    events, _ = watch(steps, 6)
    kept = lost = passes = taken = 0
    stepped = False
    for event in events:
        if event.kind == "step":
            taken += 1
            lost += not event.grads
            stepped = True
        elif event.kind == "backward":
            passes += stepped
            kept += stepped and event.grads
            stepped = False
    print(f"at {kept} of {passes} backward passes after a step the gradients of that step were still there")
    print(f"at {lost} of {taken} steps there was no gradient")
    return kept >= 2 or (taken > 0 and lost == taken)


def gradient_accumulation(steps: Steps) -> bool:
    """How many backward passes add up for one step, and whether each loss is divided by their number."""
    events, _ = watch(steps, 12)
    sizes, parts, since, summed = [], [], 0, 0
    for event in events:
        if event.kind == "backward":
            since, summed = since + 1, summed + 1
            parts.append(event.value / event.part if event.part else 1.0)
        elif event.kind == "zero_grad":
            summed = 0
        elif event.kind == "step":
            sizes.append((since, summed))
            since = 0
    if not sizes:
        return False
    passes, added = sizes[-1]
    share = sum(parts) / len(parts)
    print(
        f"{passes} backward passes a step, of which {added} add up; each goes back from {share:.3g} times the mean loss"
    )
    return passes > 1 and (share > 0.75 or added < passes)


def gradient_clipping(steps: Steps) -> bool:
    """Whether a step uses what was clipped, and how much clipping leaves."""
    events, _ = watch(steps, 8)
    used, clips = 0, [e for e in events if e.kind == "clip"]
    for number, event in enumerate(events):
        following = next((e.kind for e in events[number + 1 :] if e.kind in ("step", "zero_grad", "backward")), "")
        used += event.kind == "clip" and event.grads and following == "step"
    print(f"{len(clips)} clips, {used} of which are followed by a step that uses them")
    left = max((clip.part / clip.value for clip in clips if clip.value), default=1.0)
    print(f"at most {min(left, 1.0):.3g} of a gradient is left")
    return bool(clips) and (used == 0 or left < 1e-3)
