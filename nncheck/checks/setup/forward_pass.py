"""One training step does not run from batch to gradient.

What it does
    Takes the first batch, calls model and loss as they are joined in the set-up, and calls backward once. If the last
    batch of an epoch has a single sample, tries one of that size too.
Why it matters
    Everything else rests on this step. A loss without a gradient trains nothing, however low it looks; one whose arguments
    are swapped treats the labels as the prediction; a last batch of one sample can stop the run at the end of the epoch.
How to fix
    Keep the path from the parameters to the loss in tensors: no `.item()`, `.detach()`, `.numpy()`, `argmax` or
    `torch.tensor(loss)` between the output and the loss. Give the loss the output first and the target second. Let
    `squeeze` name its dimension, and drop a last batch of one with `drop_last=True`.
Known limits
    One batch in one mode; a later batch of another shape may still fail.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): set up the end-to-end skeleton first.
"""

from nncheck.probes.first_step import FirstStep
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, warned


@check(stage=Stage.SETUP)
def forward_pass(step: FirstStep) -> Verdict:
    """Judge the first step."""
    measured = f"loss {step.loss:.4g} from a batch where {step.batch}"
    expected = "a scalar loss whose backward reaches the parameters"
    numbers = {"loss": step.loss}
    if step.swapped:
        return failed(
            measured + f"; {step.swapped} is called with the target first",
            expected="the output as the first argument of the loss, the target as the second",
            summary=f"the arguments of {step.swapped} are swapped: the labels are taken for the prediction",
            numbers=numbers,
            places=(step.swapped_place,) if step.swapped_place else (),
            causes=("the loss is called as loss(target, output)",),
            remedies=(Remedy(text="give the output first", code="loss = loss_fn(output, target)"),),
        )
    if not step.connected:
        return failed(
            measured + ", without a gradient",
            expected=expected,
            summary="the loss has no gradient: backward() cannot reach any parameter",
            numbers=numbers,
            places=(step.loss_place,) if step.loss_place else (),
            causes=(
                "`.item()`, `.detach()`, `.numpy()` or `torch.tensor(loss)` cuts the graph",
                "the loss is made from `argmax`, a comparison or another step without derivative",
                "the model runs under `torch.no_grad()`, or every parameter is frozen",
            ),
            remedies=(Remedy(text="compute the loss from the model's output in differentiable tensor operations"),),
        )
    if step.single:
        # Another shape may still broadcast to the right loss; an error stops the run.
        verdict = failed if step.single_raises else warned
        return verdict(
            measured + f"; with the one sample of the epoch's last batch: {step.single}",
            expected="the last batch works like the others",
            summary=f"the epoch's last batch has one sample, and with it {_short(step.single)}",
            numbers=numbers,
            places=(step.single_place,) if step.single_place else (),
            causes=("`.squeeze()` drops the batch dimension too", "BatchNorm cannot normalise a single sample"),
            remedies=(
                Remedy(text="leave the last, incomplete batch out", code="DataLoader(..., drop_last=True)"),
                Remedy(text="name the dimension", code="x.squeeze(-1)"),
            ),
        )
    return passed(measured, expected=expected, numbers=numbers)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
