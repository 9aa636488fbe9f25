"""The optimizer is made anew in the loop, or trains a model that no longer runs.

What it does
    Follows the script's own loop for a few epochs. Notes which optimizer takes each step, whether another one takes its place for
    the very same parameters, whether the model is made anew, and whether the tensors in the optimizer are those of the model that
    runs.
Why it matters
    An optimizer made anew forgets its momentum and Adam's averages, and schedules that hold the old one steer nothing. One that was
    made before a layer or the model was replaced goes on training the old tensors: what runs stays as it was initialised.
How to fix
    Make model, optimizer and schedule once, in this order, before the loop over epochs; make the optimizer after the last layer is
    replaced, from the model that runs. To start with new learning rates in a loop, change `group["lr"]` or use a schedule.
Known limits
    A new optimizer for other parameters, after the weights were set back, or once with other options is taken for a planned stage.
    An optimizer without a state (plain SGD) loses nothing and may be made as often as one likes.
Source
    PyTorch documentation, `torch.optim`: the optimizer is constructed once, after the model.
"""

from nncheck.probes.optimizers_seen import OptimizersSeen
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, warned

# Once may be a planned new start: unless the same line made it with the same options.
OFTEN = 2


@check(stage=Stage.LOOP, after=("forward-pass",))
def optimizer_replaced(seen: OptimizersSeen) -> Verdict:
    """Judge what the optimizer trains, then how long it lives."""
    measured = _measured(seen)
    numbers = {"optimizers": float(1 + seen.anew), "models": float(1 + seen.models), "strange": float(seen.strange)}
    if seen.times and (seen.times == seen.steps or seen.times >= OFTEN):
        whole = seen.strange >= seen.parameters
        what = "a model that does not run" if whole else "a layer that is no longer in the model"
        return failed(
            measured,
            expected="the optimizer holds the parameters of the model that runs",
            summary=f"{seen.kind} trains {what}: {seen.strange:,} of its {seen.parameters:,} numbers never get a gradient, while "
            f"{', '.join(seen.untrained)} do and are in no optimizer",
            numbers=numbers,
            places=tuple(p for p in (seen.made_at, seen.replaced_at) if p is not None),
            causes=(f"the {'model' if whole else 'layer'} was replaced after the optimizer had been made",),
            remedies=(
                Remedy(
                    text="make the optimizer last, from the model that runs",
                    code=f"optimizer = {seen.kind}(model.parameters(), ...)",
                ),
            ),
        )
    if seen.lost and (seen.anew >= OFTEN or seen.same_line):
        each = "step" if seen.lived == 1 else "epoch"
        return failed(
            measured,
            expected="one optimizer for all epochs",
            summary=f"{seen.kind} is made anew in the loop, after {seen.lived} step{'s' * (seen.lived > 1)}: "
            f"its state is lost {seen.anew} time{'s' * (seen.anew > 1)} in {seen.steps} steps",
            numbers=numbers,
            places=(seen.made_at,) if seen.made_at else (),
            causes=(f"{seen.kind}(...) is called in the loop, once an {each}" if each == "epoch" else
                    f"{seen.kind}(...) is called in the loop, at every step",),
            remedies=(Remedy(text="make the optimizer once, before the loop over epochs"),),
        )  # fmt: skip
    if seen.models >= OFTEN:
        return warned(
            measured,
            expected="one model for all epochs",
            summary=f"the model is made anew in the loop: {1 + seen.models} models in {seen.steps} steps, and each is forgotten",
            numbers=numbers,
            places=(seen.made_at,) if seen.made_at else (),
            causes=("the model and its optimizer are made inside the loop over epochs",),
            remedies=(Remedy(text="make model and optimizer once, before the loop over epochs"),),
        )
    return passed(measured, numbers=numbers)


def _measured(seen: OptimizersSeen) -> str:
    said = f"{seen.steps} steps by {1 + seen.anew} {seen.kind} of the same parameters"
    if seen.models:
        said += f"; {1 + seen.models} models"
    return said + (
        f"; {seen.strange:,} of its {seen.parameters:,} numbers belong to nothing that runs"
        if seen.strange
        else "; all that it trains belongs to what runs"
    )
