"""A sample's prediction depends on how many samples run with it.

What it does
    Runs samples of the first batch alone and in pairs, in eval mode, and compares their outputs with those in the whole batch.
    They must agree to rounding, and each sample has one row of output for its one target. Also runs the last, smaller batch of an
    epoch once in train mode, where there is one.
Why it matters
    A special case for one size of batch, or a statistic of the batch that no gradient shows, makes a model score differently
    when it is used than when it was trained. A batch size written into the model stops the run at the end of the first epoch.
How to fix
    Take statistics along the features or time of one sample, not along the batch; keep statistics over many batches in BatchNorm.
    Write `x.size(0)` or `-1` where a batch size stands as a number, `squeeze(dim)` with the dimension in place of `squeeze()`.
    If one sample alone cannot be normalised in training, drop the last batch: `DataLoader(..., drop_last=True)`.
Known limits
    Three samples and a pair are asked. Models that draw numbers in eval mode, keep a state, route by choice, quantise or compare
    samples on purpose are left out, and said so. What gradients show already is batch-mixing's.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): generalize a special case.
"""

from nncheck.checks._near import Edge, near, uncertain
from nncheck.probes.sample_runs import SampleRuns
from nncheck.registry import check
from nncheck.verdict import Bars, Guide, Remedy, Stage, Verdict, failed, passed, skipped

# What another seed changes in the largest difference, as a part of it (15 examples, 5 seeds each; median over them).
SEEDS = 0.4
EXPECTED = "the same outputs, to rounding, in any company"


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values", "batch-mixing"))
def batch_consistency(runs: SampleRuns) -> Verdict:
    """Judge the last batch, then the samples alone."""
    if runs.last is not None and runs.last.failure:
        return _last_fails(runs)
    if runs.each > 1:
        return _folded(runs)
    moved = [value for value in runs.apart if not value <= runs.allowed]
    # One of the samples may sit on a tie or a corner; the rule of a batch shows in most.
    if not runs.reason and len(moved) * 2 > len(runs.apart):
        return uncertain(_differs(runs), {"apart": SEEDS * max(runs.apart)}, _near(runs))
    last = ""
    if runs.last is not None:
        last = f"; the epoch's last batch, of {runs.last.samples}, runs"
    if runs.reason:
        return skipped(f"not compared: {runs.reason}{last}")
    told = f"; it does not run with {' or '.join(map(str, runs.refused))} sample(s)" if runs.refused else ""
    verdict = passed(
        f"{len(runs.asked)} groups of one or two of {runs.size} samples give the same outputs as in the batch, to "
        f"{max(runs.apart, default=0.0):.1g} of the largest{told}{last}",
        expected=EXPECTED,
        numbers={"apart": max(runs.apart, default=0.0), "allowed": runs.allowed},
    )
    return uncertain(verdict, {"apart": SEEDS * max(runs.apart, default=0.0)}, _near(runs))


def _near(runs: SampleRuns) -> str:
    """Of the difference that most of the samples reach."""
    if not runs.apart:
        return ""
    middle = sorted(runs.apart)[(len(runs.apart) - 1) // 2]
    return near(Edge(name="the median difference", value=middle, limit=runs.allowed, error=SEEDS * middle))


def _folded(runs: SampleRuns) -> Verdict:
    where = f", from `{runs.function}` on" if runs.function else ""
    return failed(
        f"for a batch of {runs.size} samples with as many targets the model gives {runs.each * runs.size} rows{where}; the loss "
        "expands one against the other",
        expected="one row of output for each sample",
        summary=f"the model gives {runs.each} rows of output for each sample{where}",
        numbers={"each": float(runs.each), "size": float(runs.size)},
        places=(runs.place,) if runs.place is not None else (),
        causes=("a view or reshape with the wrong width counts features of one sample as further samples",),
        remedies=(Remedy(text="keep the batch dimension: `x.flatten(1)` or `x.view(x.size(0), -1)`"),),
    )


def _differs(runs: SampleRuns) -> Verdict:
    worst = max(runs.apart)
    where = f", from `{runs.function}` on" if runs.function else ""
    return failed(
        f"outputs of samples run alone or in pairs differ from those in the batch of {runs.size} by up to {worst:.2g} of the "
        f"largest output (rounding explains {runs.allowed:.1g})",
        expected=EXPECTED,
        summary=f"a sample's output changes with the size of its batch{where}",
        numbers={"apart": worst, "allowed": runs.allowed},
        places=(runs.place,) if runs.place is not None else (),
        causes=(
            "a mean, norm or maximum is taken over the batch under `no_grad` or `detach`",
            "a branch asks for the size of the batch, or a `squeeze()` drops the dimension of a batch of one",
        ),
        remedies=(
            Remedy(text="take statistics along the dimensions of one sample (`dim=-1`), not along dimension 0"),
            Remedy(text="let one path serve every size of batch: `squeeze(dim)`, `x.size(0)`, no special case"),
        ),
        exhibits=(
            Bars(
                title="Difference from the outputs in the batch, relative to the largest",
                x_label="difference",
                labels=runs.asked,
                values=runs.apart,
                guides=(Guide(label="rounding", value=runs.allowed),),
            ),
        ),
    )


def _last_fails(runs: SampleRuns) -> Verdict:
    last = runs.last
    assert last is not None
    single = last.samples == 1
    remedies = [Remedy(text="write `x.size(0)` or `-1` where the model has the batch size as a number")]
    drop = Remedy(text="or leave the last batch out", code="DataLoader(..., drop_last=True)")
    return failed(
        f"the batch of {runs.size} runs, the last batch of the epoch, of {last.samples} sample(s), fails: {last.failure}",
        expected="a model that runs with every batch of an epoch",
        summary=f"training stops at the last batch of the epoch: with {last.samples} sample(s) the model fails",
        numbers={"size": float(runs.size), "last": float(last.samples)},
        places=last.places,
        causes=(
            ("BatchNorm cannot normalise one sample by itself", "`squeeze()` drops the dimension of a batch of one")
            if single
            else ("the batch size is written into the model or the loss as a number",)
        ),
        remedies=(drop, *remedies) if single else (*remedies, drop),
    )
