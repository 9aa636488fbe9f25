"""Raw scores given to a loss of probabilities that was written by hand (Dice, Jaccard, Tversky): part of loss-at-init."""

from __future__ import annotations

import math

from nncheck.probes.loss_at_truth import LossAtTruth
from nncheck.verdict import Remedy, Verdict, failed

# A loss whose best answer are the targets themselves is 0 there; a smoothing term costs next to nothing.
ZERO = 0.02
# Three times the targets cannot be better than the targets: 1 - Dice goes from 0 to 1 - 2*3/(3+1) = -0.5 there, 1 - Jaccard and
# 1 - Tversky lower still; squared and absolute errors rise.
BETTER = -0.1
# A sigmoid gives none outside; rounding does not reach so many.
SHARE = 0.05


def outside_range(seen: LossAtTruth) -> Verdict | None:
    """A finding if predictions leave [0, 1] where the loss falls below what the right answer gives."""
    if not (seen.asked and math.isfinite(seen.at_truth) and abs(seen.at_truth) < ZERO and seen.beyond < BETTER):
        return None
    if not seen.outside > SHARE:
        return None
    return failed(
        f"the outputs run from {seen.low:.3g} to {seen.high:.3g}, {seen.outside:.0%} of them outside of [0, 1]; the loss is "
        f"{seen.loss:.4g}, {seen.at_truth:.2g} for the targets themselves and {seen.beyond:.2g} for three times these",
        expected="probabilities: a loss that is lowest, 0, where the predictions are the targets",
        summary=f"the loss is made for probabilities, and is given raw scores from {seen.low:.3g} to {seen.high:.3g}",
        numbers={"loss": seen.loss, "at_truth": seen.at_truth, "beyond": seen.beyond, "outside": seen.outside},
        places=(seen.place,) if seen.place is not None else (),
        causes=("a Dice, Jaccard or Tversky loss is called without a sigmoid before it: it has no lowest value",),
        remedies=(Remedy(text="make probabilities of the scores before the loss", code="p = torch.sigmoid(output)"),),
    )
