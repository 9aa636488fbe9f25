"""Seven checks of the recipe as a careful person writes them with torch alone: `python -m bench.by_hand` runs only these.

Knows the example it is for (digits, a classifier of images that ends in one linear layer); nncheck has to find that out.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[Any], str]


def loss_at_init(setup: Any) -> str:
    """Cross-entropy of the untrained network on eight batches, against ln C."""
    losses, classes = [], 0
    with torch.no_grad():
        for (x, y), _ in zip(setup.train_loader, range(8), strict=False):
            output = setup.model(x)
            classes = output.shape[1]
            losses.append(F.cross_entropy(output, y).item())
    return f"{sum(losses) / len(losses):.3f}, ln C = {math.log(classes):.3f}"


def constant_predictor(setup: Any) -> str:
    """The entropy of the labels' shares: what the best output bias would give."""
    labels = torch.cat([y for _, y in setup.train_loader])
    share = labels.bincount().double() / len(labels)
    return f"{-(share * share.log()).nansum().item():.3f}"


def overfit_one_batch(setup: Any) -> str:
    """Three hundred steps on the first batch."""
    model = copy.deepcopy(setup.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = next(iter(setup.train_loader))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return f"loss {loss.item():.4f}"


def input_baseline(setup: Any) -> str:
    """A hundred steps on real, zeroed and permuted inputs."""
    ends = []
    for change in (lambda x: x, torch.zeros_like, lambda x: x[torch.randperm(len(x))]):
        torch.manual_seed(0)
        model = copy.deepcopy(setup.model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        losses: list[float] = []
        while len(losses) < 100:
            for x, y in setup.train_loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(change(x)), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        ends.append(sum(losses[50:100]) / 50)
    return "real {:.3f}, zeroed {:.3f}, permuted {:.3f}".format(*ends)


def batch_mixing(setup: Any) -> str:
    """Backpropagate every sample's output and look at the input's gradient."""
    model = copy.deepcopy(setup.model).eval()
    x, _ = next(iter(setup.train_loader))
    mixed = 0
    for i in range(len(x)):
        given = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(given)[i].sum(), given)
        reached = gradient.flatten(1).abs().sum(1) > 0
        mixed += int(reached.sum()) - int(reached[i])
    return f"{mixed} pairs"


def gradient_check(setup: Any) -> str:
    """Central differences in float64 at ten entries of every parameter tensor."""
    model = copy.deepcopy(setup.model).double().eval()
    x, y = next(iter(setup.train_loader))
    x, y = x[:8].double(), y[:8]
    F.cross_entropy(model(x), y).backward()
    worst = 0.0
    for parameter in model.parameters():
        assert parameter.grad is not None
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for index in torch.randperm(len(flat))[:10].tolist():
            value, losses = flat[index].item(), []
            for h in (1e-5, -1e-5):
                flat[index] = value + h
                with torch.no_grad():
                    losses.append(F.cross_entropy(model(x), y).item())
            flat[index] = value
            numeric, own = (losses[0] - losses[1]) / 2e-5, gradient[index].item()
            worst = max(worst, abs(numeric - own) / max(abs(numeric), abs(own), 1e-8))
    return f"worst relative difference {worst:.1e}"


def dead_units(setup: Any) -> str:
    """Units of every ReLU that are zero on 512 samples."""
    model, hooks = copy.deepcopy(setup.model), []
    active: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            alive = (output > 0).transpose(0, 1).flatten(1).any(1)
            active[name] = active.get(name, torch.zeros_like(alive)) | alive

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            hooks.append(module.register_forward_hook(note(name)))
    with torch.no_grad():
        for (x, _), _ in zip(setup.train_loader, range(8), strict=False):
            model(x)
    for hook in hooks:
        hook.remove()
    return ", ".join(f"{1 - alive.double().mean().item():.0%}" for alive in active.values())


STEPS: dict[str, Step] = {
    "loss-at-init": loss_at_init,
    "output-bias-init": constant_predictor,
    "dead-relu": dead_units,
    "batch-mixing": batch_mixing,
    "gradient-check": gradient_check,
    "overfit-batch": overfit_one_batch,
    "input-baseline": input_baseline,
}


def measure() -> str:
    """The seven by hand and by nncheck, side by side in one process."""
    from bench.steps import EXAMPLES, check, load
    from bench.tables import table
    from nncheck.registry import catalogue

    path = EXAMPLES / "digits_cnn.py"
    rows, totals = [], [0.0, 0.0]
    setup = load(path)
    by_hand = {}
    for name, step in STEPS.items():
        torch.manual_seed(0)
        begun = time.perf_counter()
        said = step(setup)
        by_hand[name] = (time.perf_counter() - begun, said)
    others = tuple(entry.id for entry in catalogue() if entry.id not in STEPS)
    begun = time.perf_counter()
    result = check(path.name, load(path), ignore=others)
    totals = [sum(seconds for seconds, _ in by_hand.values()), time.perf_counter() - begun]
    for name, (seconds, said) in by_hand.items():
        known = [r for r in result.checks if r.id == name]
        own = f"{known[0].seconds:.2f} s ({known[0].status})" if known else "not there"
        rows.append([name, f"{seconds:.2f} s", own, said])
    rows.append(
        [
            "all seven",
            f"{totals[0]:.2f} s",
            f"{totals[1]:.2f} s",
            f"nncheck takes {totals[1] / totals[0]:.2f} of the time",
        ]
    )
    return table(
        f"The same seven checks by hand ({Path(path).name})", ["check", "by hand", "nncheck", "by hand it says"], rows
    )


if __name__ == "__main__":
    print(measure())
