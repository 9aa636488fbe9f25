"""A term of the loss that another one drowns: part of gradient-flow."""

from nncheck.probes.term_shares import Term, TermShares
from nncheck.verdict import Remedy, Verdict, warned

# A mean of squared or absolute errors times a thousand is a weight from elsewhere, where errors are summed or a thousandth the
# size; boxes are weighted by 5 (DETR), pixels by 100 (pix2pix). And only if the gradient bears it out: errors of a thousandth
# make the same gradient as others without the weight, and are left alone.
HEAVY = 1e3
# The labels' part of the gradient of what both train. A fiftieth is what one sample of 50 has: the direction is the other's.
DROWNED = 0.02


def drowned(terms: TermShares, numbers: dict[str, float]) -> Verdict | None:
    """A finding if labels are to be learned and the weight of an error of numbers leaves them next to no gradient."""
    for loud in terms.terms:
        for faint in terms.terms:
            heavy = abs(loud.weight) >= HEAVY and abs(loud.weight) >= HEAVY * abs(faint.weight)
            if heavy and loud.numbers and faint.labels and 0 < faint.gradient < DROWNED * loud.gradient:
                return _verdict(terms, loud, faint, numbers)
    return None


def _verdict(terms: TermShares, loud: Term, faint: Term, numbers: dict[str, float]) -> Verdict:
    share = faint.gradient / loud.gradient
    balanced = loud.weight * share
    return warned(
        f"in the {terms.shared} parameters that both train, {loud.kind}, weighted by {loud.weight:.4g}, has a gradient of "
        f"{loud.gradient:.3g}, and {faint.kind}, weighted by {faint.weight:.4g}, one of {faint.gradient:.3g}: {share:.2%} of it",
        expected=f"at least {DROWNED:.0%}, or a weight below {HEAVY:g}",
        summary=f"{loud.kind} times {loud.weight:.4g} drowns {faint.kind}: the labels have {share:.2%} of the other's gradient",
        numbers={**numbers, "share": share, "weight": loud.weight},
        places=(loud.place, faint.place),
        causes=("the weight is from a set-up whose errors are smaller, or summed in another way",),
        remedies=(
            Remedy(
                text=f"take a smaller weight: with {balanced:.3g} in place of {loud.weight:.4g} both gradients are of one size"
            ),
        ),
    )
