"""One training step runs from batch to gradient.

What it does
    Takes the first batch, calls model and loss as they are joined in the set-up, and calls backward once.
Why it matters
    Everything else rests on this step. A loss without a gradient trains nothing, however low it looks.
How to fix
    Keep the path from the parameters to the loss in tensors: no `.item()`, `.detach()`, `.numpy()`, `argmax` or
    `torch.tensor(loss)` between the output and the loss.
Known limits
    One batch in one mode; a later batch of another shape may still fail.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): set up the end-to-end skeleton first.
"""

from nncheck.probes.first_step import FirstStep
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed


@check(stage=Stage.SETUP)
def forward_pass(step: FirstStep) -> Verdict:
    """Judge the first step."""
    measured = f"loss {step.loss:.4g} from a batch where {step.batch}"
    if step.connected:
        return passed(measured, expected="a scalar loss with a gradient", numbers={"loss": step.loss})
    return failed(
        measured + ", without a gradient",
        expected="a loss whose backward reaches the parameters",
        summary="the loss has no gradient: backward() cannot reach any parameter",
        places=(step.loss_place,) if step.loss_place else (),
        causes=(
            "`.item()`, `.detach()`, `.numpy()` or `torch.tensor(loss)` cuts the graph",
            "the loss is made from `argmax`, a comparison or another step without derivative",
            "the model runs under `torch.no_grad()`, or every parameter is frozen",
        ),
        remedies=(Remedy(text="compute the loss from the model's output in differentiable tensor operations"),),
    )
