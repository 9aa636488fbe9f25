"""The terms of a loss: how large a gradient each sends to the parameters that they share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import CLASSIFICATION, REGRESSION, LossCall, place_of, soft_targets
from nncheck.probes.initial_loss import InitialLoss
from nncheck.registry import probe
from nncheck.verdict import Place

# Weights that lie this far apart are looked into.
APART = 100.0
# Terms looked at, one backward pass each.
TERMS = 6


@dataclass(frozen=True, kw_only=True)
class Term:
    """One call of torch's losses in the first batch. weight: the final loss's derivative by its value. gradient: the norm of what
    it sends, weight included, to the parameters that every term reaches. labels: it asks for given labels, of several kinds;
    numbers: for numbers."""

    kind: str
    place: Place
    weight: float
    gradient: float
    labels: bool
    numbers: bool


@dataclass(frozen=True, kw_only=True)
class TermShares:
    """The terms whose weights could be told; none if there are fewer than two, or if their weights lie near each other."""

    terms: tuple[Term, ...]
    shared: int


_NONE = TermShares(terms=(), shared=0)


@probe
def term_shares(sandbox: Sandbox, start: InitialLoss) -> TermShares:
    """No pass while the weights lie near each other; else one forward pass, and a backward pass for each term."""
    weights = [abs(use.weight) for use in start.uses if use.weight]
    if len(weights) < 2 or max(weights) < APART * min(weights):
        return _NONE
    with sandbox.trial() as model:
        batch = sandbox.feed.first
        outcome = sandbox.forward(batch)
        leaves: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        rows: list[tuple[LossCall, float, tuple[Tensor | None, ...]]] = []
        for call in [c for c in outcome.calls if c.value.requires_grad and c.value.numel() == 1][:TERMS]:
            (slope,) = torch.autograd.grad(outcome.loss, [call.value], retain_graph=True, allow_unused=True)
            if slope is not None and float(slope):
                sandbox.check_time()
                sent = sandbox.grad(slope.detach() * call.value, leaves, batch, retain_graph=True)
                rows.append((call, float(slope), sent))
        shared = [i for i in range(len(leaves)) if all(sent[i] is not None for _, _, sent in rows)]
        if len(rows) < 2 or not shared:
            return _NONE
        return TermShares(
            terms=tuple(
                Term(
                    kind=call.kind,
                    place=place_of(call, sandbox.setup.origins),
                    weight=weight,
                    gradient=_size([sent[i] for i in shared]),
                    labels=_asks_for_labels(call),
                    numbers=call.kind in REGRESSION and call.reduction == "mean",
                )
                for call, weight, sent in rows
            ),
            shared=len(shared),
        )


def _size(gradients: list[Tensor | None]) -> float:
    return float(torch.stack([g.detach().double().norm() for g in gradients if g is not None]).norm())


def _asks_for_labels(call: LossCall) -> bool:
    """Labels of the data: of several kinds, so not those that a generator wants its pictures to have."""
    target = call.target.detach()
    if call.kind in CLASSIFICATION:
        return call.reduction == "mean" and not soft_targets(call) and bool((target != target.flatten()[0]).any())
    binary = call.kind in ("bce", "bce-with-logits") and call.reduction == "mean"
    return binary and bool(((target == 0) | (target == 1)).all()) and bool((target != target.flatten()[0]).any())
