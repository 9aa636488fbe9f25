"""NaN or infinity in the data, the weights, the loss or the gradients.

What it does
    Looks for NaN and Inf in the first batches, the weights, the loss and every gradient, runs batches that stand out
    (all targets ignored, constant samples, empty masks), and takes a few of the user's steps. Whatever is not finite is
    traced to the operation that made it, forward or on the way back. Where the loss takes the logarithm of a softmax, the
    scores are once pulled apart until the softmax gives zeros.
Why it matters
    One NaN in one sample makes every weight NaN with the next step, and a finite loss can still have a NaN gradient
    (`torch.where` around a log, the square root of 0).
How to fix
    Clean the sample shown. Keep arguments inside the domain before the operation, not after it: `x.clamp_min(eps).log()`,
    `(x + eps).sqrt()`, a mask with at least one open position, a batch with at least one counted target. Replace
    `torch.log(torch.softmax(x, dim))` by `F.log_softmax(x, dim)`.
Known limits
    The first sixteen batches are looked at, those that stand out are run. NaN that the set-up masks out before the loss
    is only mentioned. Overflow that needs long training is not foreseen.
Source
    PyTorch forum threads on NaN losses; PyTorch documentation, autograd: "anomaly detection".
"""

import math

from nncheck.probes.first_step import FirstStep
from nncheck.probes.gradients import Gradients
from nncheck.probes.log_of_softmax import GAP, LogOfSoftmax
from nncheck.probes.non_finite import BadData, BadRun, NonFinite
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Table, Verdict, failed, passed, warned


@check(stage=Stage.SETUP, after=("forward-pass",), consequence_of=("label-range",), part="train_loader")
def finite_values(first: FirstStep, seen: NonFinite, steps: Gradients, log: LogOfSoftmax) -> Verdict:
    """Judge from the source on: data, weights, loss, gradients, the steps after."""
    expected = "no NaN or Inf"
    table = _table(seen)
    measured = f"loss {first.loss:.4g}; {seen.scanned} batches looked at"
    hurt = not math.isfinite(first.loss) or bool(first.bad_gradients)
    bad_run = next((run for run in seen.runs if run.bad), None)
    data = (
        [d for d in seen.data if d.batch == 0]
        if hurt
        else [d for d in seen.data if bad_run and d.batch == bad_run.batch]
    )
    weights = (*first.bad_parameters, *first.bad_buffers)
    if first.bad_parameters or (hurt and weights):
        return failed(
            f"{len(weights)} of the model's tensors hold NaN or Inf: {_some(weights)}",
            expected=expected,
            summary=f"{_some(weights)} holds NaN or Inf before the first step",
            places=tuple(Place(name=name, detail="holds NaN or Inf") for name in weights),
            causes=("memory that was never initialised (`torch.empty`)", "a checkpoint of a run that had diverged"),
            remedies=(Remedy(text="initialise it, or load a checkpoint with finite weights"),),
            exhibits=table,
        )
    if data:
        return _bad_data(data, first, bad_run, seen.origin, expected, table)
    if hurt:
        return _first_batch(first, seen, expected, table)
    if bad_run is not None:
        return _later_batch(bad_run, measured, expected, table)
    return (
        _after_steps(steps, measured, expected)
        or _log_of_softmax(log, measured)
        or _fine(first, seen, steps, measured, expected, table)
    )


def _bad_data(
    data: list[BadData],
    first: FirstStep,
    run: BadRun | None,
    origin: Place | None,
    expected: str,
    table: tuple[Table, ...],
) -> Verdict:
    worst = data[0]
    loss = run.loss if run else first.loss
    where = f"batch {worst.batch}, {'sample' if worst.count == 1 else 'samples'} {', '.join(map(str, worst.samples))}"
    what = "target" if worst.target else "input"
    return failed(
        f"{worst.tensor} holds {worst.what} in {worst.count} samples of batch {worst.batch} ({worst.share:.2%} of its values); "
        f"the loss there is {loss:g}",
        expected=expected,
        summary=f"{worst.what} in the {what} ({where}) reaches the loss",
        numbers={"share": worst.share, "samples": float(worst.count)},
        places=tuple(
            Place(name=f"{d.tensor} of batch {d.batch}", detail=f"{d.what} in samples {', '.join(map(str, d.samples))}")
            for d in data[:4]
        )
        + ((origin,) if origin else ()),
        causes=("missing values read as NaN", "a division by a zero range or standard deviation in the preprocessing"),
        remedies=(
            Remedy(text="drop or fill these samples where the data is read", code="x = torch.nan_to_num(x, nan=0.0)"),
        ),
        exhibits=table,
    )


def _first_batch(first: FirstStep, seen: NonFinite, expected: str, table: tuple[Table, ...]) -> Verdict:
    at = seen.origin or first.bad_layer or first.loss_place
    places = tuple(p for p in (seen.origin, first.bad_layer) if p) or ((first.loss_place,) if first.loss_place else ())
    if not math.isfinite(first.loss):
        by = f": {seen.origin.detail} at {seen.origin.name}" if seen.origin else ""
        return failed(
            f"the first loss is {first.loss:g}" + (f"; {seen.origin.detail}" if seen.origin else ""),
            expected="a finite loss",
            summary=f"the first loss is {first.loss:g}{by}",
            places=places,
            causes=_forward_causes(at),
            remedies=(Remedy(text="keep the argument inside the operation's domain", code="x.clamp_min(1e-6).log()"),),
            exhibits=table,
        )
    return failed(
        f"the loss is {first.loss:.4g}, and {len(first.bad_gradients)} gradients hold NaN or Inf: {_some(first.bad_gradients)}",
        expected="finite gradients",
        summary=f"the loss is finite, but the gradient of {_some(first.bad_gradients)} is not"
        + (f": {seen.origin.detail}" if seen.origin else ""),
        places=places or tuple(Place(name=n, detail="gradient not finite") for n in first.bad_gradients),
        causes=(
            "`torch.where` or a mask hides NaN in the forward; its derivative, 0 times Inf, is NaN all the same",
            "the derivative of sqrt, norm or std at 0, or of log at 0, is infinite",
        ),
        remedies=(
            Remedy(text="keep the argument away from the edge before the operation", code="(x + 1e-8).sqrt()"),
            Remedy(text="mask the argument, not the result", code="torch.where(mask, x, 1.0).log()"),
        ),
        exhibits=table,
    )


def _later_batch(run: BadRun, measured: str, expected: str, table: tuple[Table, ...]) -> Verdict:
    what = (
        f"its loss is {run.loss:g}"
        if not math.isfinite(run.loss)
        else f"{len(run.bad_gradients)} gradients are not finite"
    )
    return failed(
        f"{measured}; in batch {run.batch} {run.reason}, and {what}",
        expected=expected,
        summary=f"batch {run.batch}: {run.reason}, and {what}",
        numbers={"batch": float(run.batch)},
        places=(run.origin,) if run.origin else (Place(name=f"batch {run.batch}", detail=run.reason),),
        causes=(
            "a mean over nothing: no target of the batch counts",
            "a division by a standard deviation, sum or count that can be 0",
            "a softmax over positions that are all masked",
        ),
        remedies=(Remedy(text="leave such samples out, or guard the division", code="total / count.clamp_min(1)"),),
        exhibits=table,
    )


def _after_steps(steps: Gradients, measured: str, expected: str) -> Verdict | None:
    if steps.bad_parameters:
        return failed(
            f"{measured}; after {len(steps.losses)} steps of the optimizer {len(steps.bad_parameters)} parameters hold NaN or Inf",
            expected=expected,
            summary=f"the optimizer's step makes {_some(steps.bad_parameters)} NaN or Inf from finite gradients",
            places=tuple(Place(name=name, detail="not finite after the step") for name in steps.bad_parameters),
            causes=("an eps of 0, or one that half precision rounds to 0", "a learning rate far too high"),
            remedies=(Remedy(text="give the optimizer an eps the dtype can hold, and a smaller rate"),),
        )
    wrong = [i for i, loss in enumerate(steps.losses) if not math.isfinite(loss)]
    if not wrong:
        return None
    return warned(
        f"{measured}; after {wrong[0]} steps the loss is {steps.losses[wrong[0]]}",
        expected=expected,
        summary=f"the loss is {steps.losses[wrong[0]]} after {wrong[0]} steps of the optimizer",
        causes=("a learning rate far too high", "an operation whose domain the weights have left"),
        remedies=(Remedy(text="try a learning rate ten times smaller"),),
    )


def _log_of_softmax(log: LogOfSoftmax, measured: str) -> Verdict | None:
    if log.place is None or math.isfinite(log.stretched):
        return None
    return warned(
        f"{measured}; the scores lie {log.gap:.3g} apart, and if they lie {GAP:g} apart the loss is {log.stretched:g}",
        expected="a loss that is finite for finite scores",
        summary="log(softmax(x)) is -inf where scores lie 104 apart: exp(-104) is 0 in float32",
        numbers={"gap": log.gap, "loss": log.loss},
        places=(log.place,),
        causes=("the softmax rounds small probabilities to 0 before the logarithm sees them",),
        remedies=(Remedy(text="take both at once", code="log_p = F.log_softmax(x, dim=-1)"),),
    )


def _fine(
    first: FirstStep, seen: NonFinite, steps: Gradients, measured: str, expected: str, table: tuple[Table, ...]
) -> Verdict:
    notes = ""
    if seen.data:
        notes = f"; {seen.data[0].what} in {seen.data[0].tensor} does not reach the loss"
    elif first.bad_buffers:
        notes = f"; {_some(first.bad_buffers)} holds Inf or NaN and does not reach the loss"
    return passed(
        f"{measured}; data, weights, gradients and {len(steps.losses)} steps are finite{notes}",
        expected=expected,
        numbers={"loss": first.loss, "batches": float(seen.scanned)},
        exhibits=table,
    )


def _forward_causes(at: Place | None) -> tuple[str, ...]:
    detail = at.detail if at else ""
    if "softmax" in detail or "attention" in detail:
        return ("every position of some row is masked",)
    if any(word in detail for word in ("log", "sqrt", "div", "pow", "exp")):
        return ("the argument leaves the operation's domain, e.g. log of 0, a division by 0, exp of a large value",)
    if "cross_entropy" in detail or "nll" in detail:
        return ("every target of the batch is ignored, so the mean is over nothing",)
    if "ctc" in detail:
        return ("an input is shorter than its target",)
    return ("an operation outside its domain", "values too large for the dtype")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _table(seen: NonFinite) -> tuple[Table, ...]:
    rows = [
        (
            str(d.batch),
            d.tensor,
            d.what,
            ", ".join(map(str, d.samples)) + (" ..." if d.count > 5 else ""),
            f"{d.share:.2%}",
        )
        for d in seen.data[:20]
    ]
    if not rows:
        return ()
    return (
        Table(
            title="Not finite in the data", columns=("batch", "tensor", "what", "samples", "share"), rows=tuple(rows)
        ),
    )
