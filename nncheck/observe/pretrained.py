"""Signs that a network was trained before it came to us: what is odd in a fresh one may be learned in a trained one."""

from __future__ import annotations

import torch
from torch import Tensor

from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall, per_element
from nncheck.losses.levels import best_constant

# A forward pass or two to find out a shape moves BatchNorm's count too; training moves it further.
FEWEST_BATCHES = 20
# torch's layers whose default weights are uniform within 1/sqrt(fan-in) (kaiming_uniform with a = sqrt(5)), and how many a weight
# needs for its form to be told.
_UNIFORM = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
FEWEST_WEIGHTS = 200
# A loss this far below what the best constant answer reaches was learned (or leaks); chance does not get there.
LEARNED = 0.5


def trained_before(sandbox: Sandbox) -> str:
    """Why the model is thought to be trained already, in a few words; "" if nothing says so."""
    counts: list[Tensor] = []
    moved: list[Tensor] = []
    for module in sandbox.model.modules():
        count = getattr(module, "num_batches_tracked", None)
        if isinstance(count, Tensor):
            counts.append(count.reshape(()))
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if "Norm" not in type(module).__name__ or not isinstance(weight, Tensor) or weight.numel() < 2:
            continue
        if torch.nn.parameter.is_lazy(weight):
            continue
        spread = weight.detach().float().std()
        # Some initialise gains at random (DCGAN), hardly anybody offsets too.
        moved.append(torch.minimum(spread, bias.detach().float().std()) if isinstance(bias, Tensor) else spread)
    if counts and int(torch.stack(counts).max()) >= FEWEST_BATCHES:
        return f"its BatchNorm has counted {int(torch.stack(counts).max())} batches"
    if moved and bool((torch.stack(moved) > 0).all()):
        return "the gains and offsets of its normalisation layers are no longer at their initial values"
    if any(state for state in sandbox.optimizer.state.values()):
        return "the optimizer has a state already"
    return ""


def as_made(module: torch.nn.Module) -> bool:
    """Whether all larger weights of linear and convolutional layers are as torch makes them: uniform within 1/sqrt(fan-in).

    The largest of n such numbers lies within 20/n of the bound but for a chance of e^-20, and never beyond; their root mean
    square is bound/sqrt(3), give or take 0.26/sqrt(n) of the bound. Not one training step leaves that.
    """
    seen = False
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(layer, _UNIFORM) or not isinstance(weight, Tensor) or weight.numel() < FEWEST_WEIGHTS:
            continue
        values = weight.detach().double()
        bound = (values[0].numel()) ** -0.5
        number = values.numel()
        largest, size = float(values.abs().max()), float(values.square().mean().sqrt())
        if not (1 - 20 / number) * bound <= largest <= bound * (1 + 1e-6):
            return False
        if abs(size - bound / 3**0.5) > 5 * 0.26 * bound / number**0.5:
            return False
        seen = True
    return seen


def frozen_output(model: torch.nn.Module, width: int) -> str:
    """Why the scores are thought to come from weights that were learned elsewhere: those of the output layer are frozen."""
    for name, parameter in model.named_parameters():
        if torch.nn.parameter.is_lazy(parameter) or parameter.requires_grad or parameter.ndim < 2:
            continue
        if (
            parameter.size(0) == width and "weight" in name.rpartition(".")[2]
        ):  # a fixed table of positions is no output
            return f"`{name}`, as wide as the output, is frozen"
    return ""


def learned_already(losses: tuple[LossCall, ...]) -> str:
    """Why the first loss says the model is trained already; "" if it does not, or cannot be judged."""
    if len(losses) != 1:
        return ""
    constant = best_constant(losses[0])
    value = per_element(losses[0])
    if constant is None or not 0 <= value < LEARNED * constant[1]:
        return ""
    return f"its loss of {value:.3g} is far below the {constant[1]:.3g} of the best constant answer"
