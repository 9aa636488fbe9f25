"""Outputs that prefer the wrong class whatever the sample, and the bias that would be right: part of loss-at-init."""

from __future__ import annotations

import math

from nncheck.losses.starting import StartingLoss
from nncheck.probes.label_baseline import LabelBaseline
from nncheck.verdict import Place, Remedy

Blame = tuple[str, tuple[Place, ...], tuple[str, ...], tuple[Remedy, ...]]
"""(what is off, where, why, what to do)."""

# Biases longer than this are better computed than written out.
_LONGEST = 20


def wrong_bias(level: StartingLoss, labels: LabelBaseline, where: str, bias: str, places: tuple[Place, ...]) -> Blame:
    """`where` and `bias`: the output layer for people and its bias as code."""
    best = best_logits(labels) if labels.kind == level.kind else ()
    zero = Remedy(text="start the output bias at zero, or at the best constant", code=f"{bias}.data.zero_()")
    set_best = Remedy(
        text="or set it to the best constant for these labels"
        if len(best) != 1
        else "set the output bias to the best constant",
        code=f"{bias}.data = torch.tensor([{', '.join(f'{value:.4g}' for value in best)}])",
    )
    if len(best) == 1 and labels.shares and len(labels.now) == 1:
        now = _logit(labels.now[0]) if labels.kind == "bce" else labels.now[0]
        opposite = now * best[0] < 0
        return (
            f"{where} prefers the wrong class for every sample: it gives {now:.3g} on average, the best constant is {best[0]:.3g}",
            places,
            (
                f"the output bias has the wrong sign: {labels.shares[0]:.1%} of the labels are positive"
                if opposite
                else f"the output bias goes too far: {labels.shares[0]:.1%} of the labels are positive",
            ),
            (set_best, Remedy(text="or start it at zero", code=f"{bias}.data.zero_()")),
        )
    return (
        f"{where} prefers the same classes for every sample, and they are the wrong ones",
        places,
        ("the output bias has the wrong sign or order, or does not allow for the weights of the loss",),
        (zero, set_best) if 1 < len(best) <= _LONGEST else (zero,),
    )


def best_logits(labels: LabelBaseline) -> tuple[float, ...]:
    """The best constant as what an output layer gives, before any sigmoid."""
    return tuple(map(_logit, labels.bias)) if labels.kind == "bce" else labels.bias


def _logit(share: float) -> float:
    return math.log(max(share, 1e-12)) - math.log(max(1 - share, 1e-12))
