"""What holds a network back from learning its samples by heart, as far as it is in use; and the error that is aimed at."""

from __future__ import annotations

from dataclasses import dataclass

from nncheck.lab.micro import data_loss
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import drop_rates, is_dropout
from nncheck.observe.watch import Call
from nncheck.registry import probe


@dataclass(frozen=True, kw_only=True)
class Regularisers:
    """What one forward pass in train mode and the optimizer show; augmentation is seen by fetching items again (`ItemRepeats`).

    dropout: the highest rate of dropout or stochastic depth among the modules; calls: dropout called as a function, with a rate.
    decay: the highest weight decay of the optimizer's groups. smoothing: of the labels, in the loss.
    target_error: the recipe's, None if it has none.
    """

    dropout: float
    calls: bool
    decay: float
    smoothing: float
    target_error: float | None


@probe
def regularisers(sandbox: Sandbox) -> Regularisers:
    """One forward pass on the first batch."""
    called: list[float] = []

    def see(call: Call) -> None:
        if is_dropout(call.function):
            called.append(float(call.kwargs.get("p", call.args[1] if len(call.args) > 1 else 0.0) or 0.0))

    with sandbox.trial():
        rates = [rate for _, _, rate in drop_rates(sandbox.model)]
        call = data_loss(sandbox.forward(sandbox.feed.first, calls=(see,)))
        decays = [float(group.get("weight_decay") or 0.0) for group in sandbox.optimizer.param_groups]
    smoothing = call.options.get("label_smoothing") if call is not None else None
    return Regularisers(
        dropout=max(rates, default=0.0),
        calls=any(rate > 0 for rate in called),
        decay=max(decays, default=0.0),
        smoothing=float(smoothing or 0.0),
        target_error=sandbox.setup.target_error,
    )
