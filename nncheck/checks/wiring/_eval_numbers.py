"""Numbers that make train and eval mode differ: dropout's rates, BatchNorm's momentum, batches too small for statistics."""

from nncheck.probes.evaluation import Evaluation
from nncheck.probes.normalisation import SMALL_BATCH, Normalisation
from nncheck.verdict import Place, Remedy, Verdict, warned

# TensorFlow 1's keep_prob = 0.9 or 0.8, copied. Published rates end at 0.7 (graph networks on citation data: 0.6; AlexNet: 0.5).
KEEP = 0.8
# PyTorch's is the weight of the new batch: 0.1 by default, 0.01 to 0.03 in detectors and EfficientNets. TensorFlow's 0.99 and
# 0.9 are the weight of the old; measured: statistics of the last batch alone.
FAST = 0.5
# At 0.005 the statistics have gone 63 % of the way after 200 updates (measured at 0.001: eval loss 2.12, train loss 1.79).
SLOW = 0.005


def rates(passes: Evaluation) -> Verdict | None:
    """A dropout rate that was meant as the share to keep."""
    high = [(name, rate, place) for name, rate, place in passes.rates if rate >= KEEP]
    if not high:
        return None
    name, rate, _ = max(high, key=lambda item: item[1])
    return warned(
        f"{len(high)} of {len(passes.rates)} dropouts drop {rate:g} of their inputs ({name})",
        expected=f"rates below {KEEP:g}; 0.1 to 0.5 are usual",
        summary=f"a dropout drops {rate:.0%} of the activations: was that the share to keep?",
        numbers={"rate": rate},
        places=tuple(place for _, _, place in high),
        causes=("`p` is the probability to drop; older TensorFlow code gives the probability to keep",),
        remedies=(Remedy(text="give the share to drop", code=f"nn.Dropout(p={1 - rate:.2g})"),),
    )


def momentum(norms: Normalisation) -> Verdict | None:
    """A BatchNorm momentum by which the statistics follow the last batch, or do not arrive within the run."""
    fast = [m for m in norms.momenta if m.value > FAST]
    steps = norms.planned if norms.planned is not None else (norms.epoch or 0)
    slow = [m for m in norms.momenta if 0 <= m.value < SLOW and steps * m.value < 1] if norms.epoch else []
    found = fast or slow
    if not found:
        return None
    first = found[0]
    kept = f"{1 - first.value:.3g} of the old statistics at each update"
    if fast:
        why = f"TensorFlow's momentum is the share to keep, PyTorch's that to replace: {1 - first.value:.3g} was meant"
    else:
        run = "the run" if norms.planned else "an epoch"
        way = 1 - (1 - first.value) ** steps
        why = f"after the {steps} updates of {run} the statistics have gone {way:.0%} of the way to the data's"
    return warned(
        f"{len(found)} BatchNorm layers have momentum {first.value:g}: they keep {kept}",
        expected=f"between {SLOW:g} and {FAST:g}; PyTorch's default is 0.1",
        summary=f"BatchNorm's momentum of {first.value:g} makes its statistics "
        + ("those of the last batch" if fast else "arrive long after the run"),
        numbers={"momentum": first.value, "layers": float(len(found))},
        places=tuple(m.place for m in found),
        causes=(why,),
        remedies=(Remedy(text="leave the momentum at its default, 0.1" if slow else "give one minus that value"),),
    )


def small_batches(norms: Normalisation) -> Verdict | None:
    """Statistics of a batch that are worth fewer than four independent values."""
    poor = [w for w in norms.wandering if w.independent < SMALL_BATCH or w.values <= SMALL_BATCH]
    if not poor or norms.batch_size > SMALL_BATCH:
        return None
    worst = min(poor, key=lambda w: w.independent)
    places: tuple[Place, ...] = tuple(w.place for w in poor)
    return warned(
        f"with batches of {norms.batch_size}, the statistics of {len(poor)} BatchNorm layers are worth "
        f"{worst.independent:.1f} independent values a channel ({worst.layer})",
        expected=f"more than {SMALL_BATCH}; 16 and more are usual",
        summary=f"BatchNorm has too few samples: batches of {norms.batch_size}",
        numbers={"independent": worst.independent, "batch_size": float(norms.batch_size)},
        places=places,
        causes=(
            "a mean and variance of so few samples are noise in training, and differ from the running ones in validation",
        ),
        remedies=(Remedy(text="use GroupNorm or LayerNorm instead, or batches of 16 and more"),),
    )
