"""A gradient differs from the derivative of the loss.

What it does
    Puts the set-up into float64, takes 4 to 8 samples, and compares the gradient of the user's whole loss with finite
    differences along a direction that gives every parameter tensor its share; at init and again after a few steps. Every
    `torch.autograd.Function` the user wrote is then checked by itself, argument by argument, on the values the model gives it.
Why it matters
    A wrong `backward` raises nothing: training goes in a slightly or entirely wrong direction.
How to fix
    Derive `backward` again from `forward`: multiply by `grad_output`, keep the mask or factor of the forward, use the tensor
    that was meant to be saved, sum over the dimensions that were broadcast. `torch.autograd.gradcheck` then agrees. If another
    gradient is meant (a straight-through estimator, a surrogate), say so in the class's docstring.
Known limits
    A few samples at two points. A forward that gives back its input (gradient reversal, scaling) or is a staircase (round, sign,
    spikes) has a backward of the author's choice, which is not judged; nor are `detach`, `no_grad` and gradient hooks.
Source
    Karpathy, CS231n notes, "Gradient checks"; Griewank and Walther, "Evaluating Derivatives" (2008).
"""

import math

from nncheck.observe.functions import ArgumentError, FunctionErrors
from nncheck.probes.gradient_errors import GradientErrors, Moment
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Table, Verdict, failed, passed, warned

# Relative error of smooth sound networks in float64: 1e-12 to 1e-8; with kinks up to 9e-5. Wrong backwards: 0.08 in the
# median, and above 1e-3 at every step width. The usual levels (CS231n): 1e-7 is great, 1e-5 good, 1e-3 wrong.
GREAT, FAIR, WRONG = 1e-7, 1e-5, 1e-3
EXPECTED = "a relative error of at most 1e-5 (1e-3 with kinks)"


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"))
def gradient_check(errors: GradientErrors) -> Verdict:
    """Judge the gradients of the loss, and those of each function of the user's."""
    measured = "; ".join(f"{m.when} {_level(m.error)} over {m.tensors} tensors" for m in errors.moments)
    measured = f"relative error of the gradient in {errors.precision} on {errors.samples} samples: {measured}"
    numbers = {"samples": float(errors.samples), "functions": float(len(errors.functions))}
    if errors.moments:
        numbers["error"] = max(m.error for m in errors.moments)
    wrong = [(f, a) for f in errors.functions for a in f.arguments if _judged(f) and a.error > WRONG]
    if wrong:
        return _wrong_backward(errors, measured, numbers, wrong)
    off = [m for m in errors.moments if m.error > WRONG]
    if off and not _explained(errors) and all(_unexplained(m, errors) for m in errors.moments):
        places = tuple(m.parameter for m in off if m.parameter)
        return warned(
            measured,
            expected=EXPECTED,
            summary=f"the gradient is not the derivative of the loss (relative error {off[0].error:.2g})",
            numbers=numbers,
            places=places[:1],
            causes=(
                "a backward registered outside of `torch.autograd.Function` (a custom operator, an extension) is wrong",
                "values leave the graph unseen: through NumPy, Python numbers or `torch.tensor(...)`",
            ),
            remedies=(Remedy(text="check the operation that uses this parameter with `torch.autograd.gradcheck`"),),
        )
    notes = _notes(errors, off)
    exhibits = (_table(errors),) if errors.functions else ()
    return passed(f"{measured}{notes}", expected=EXPECTED, numbers=numbers, exhibits=exhibits)


def _judged(function: FunctionErrors) -> bool:
    return not (function.identity or function.flat or function.declared)


def _explained(errors: GradientErrors) -> bool:
    return bool(errors.cuts) or any(not _judged(f) for f in errors.functions)


def _unexplained(moment: Moment, errors: GradientErrors) -> bool:
    """Wrong by more than 1e-3 at every step width, at a point without a kink, with a loss that comes out the same twice."""
    smooth = moment.bend < WRONG
    return (
        errors.precision == "float64" and moment.error > WRONG and moment.steady and smooth and len(moment.errors) > 1
    )


def _level(error: float) -> str:
    if math.isnan(error):
        return "not measured"
    word = "great" if error <= GREAT else "good" if error <= FAIR else "fair" if error <= WRONG else "off"
    return f"{error:.1e} ({word})"


def _notes(errors: GradientErrors, off: list[Moment]) -> str:
    notes = []
    meant = [f"{f.name} ({_why(f)})" for f in errors.functions if not _judged(f)]
    if meant:
        notes.append(f"gradients of the author's own choice: {', '.join(meant)}")
    if off and errors.cuts:
        kinds = ", ".join(dict.fromkeys(p.detail for p in errors.cuts))
        where = errors.cuts[0]
        line = f" ({where.file}:{where.line})" if where.file else ""
        notes.append(f"the difference goes with {kinds}{line}, which cuts the graph on purpose")
    elif off and not meant:
        notes.append("the loss has kinks or changes from call to call, so the difference says nothing")
    return "".join(f"; {note}" for note in notes)


def _why(function: FunctionErrors) -> str:
    if function.identity:
        return "its forward gives back its input"
    if function.flat:
        return "its forward is a staircase"
    return f"its source says {function.declared!r}"


def _wrong_backward(
    errors: GradientErrors,
    measured: str,
    numbers: dict[str, float],
    wrong: list[tuple[FunctionErrors, ArgumentError]],
) -> Verdict:
    function, argument = max(wrong, key=lambda pair: pair[1].error)
    of = f"{function.name}.backward gives a gradient of {argument.argument} that is off by {argument.error:.2g} (relative)"
    causes = list(dict.fromkeys(c for f, a in wrong for c in _causes(a)))
    places: list[Place] = []
    for each, _ in wrong:
        places.extend(p for p in (each.place, each.used) if p not in places)
    return failed(
        f"{of}; {measured}",
        expected=EXPECTED,
        summary=f"the backward of {function.name} is wrong",
        numbers={**numbers, "function_error": argument.error},
        places=tuple(places),
        causes=tuple(causes),
        remedies=(
            Remedy(
                text="derive backward again from forward, and let torch compare them",
                code=f"torch.autograd.gradcheck({function.name}.apply, inputs_in_float64)",
            ),
        ),
        exhibits=(_table(errors),),
    )


def _causes(argument: ArgumentError) -> tuple[str, ...]:
    factor = argument.factor
    if math.isnan(factor):
        return (
            "a mask or factor of the forward is missing in the backward, or another tensor was saved than meant",
            "the gradient is not multiplied by `grad_output`, or is summed over the wrong dimensions",
        )
    if abs(factor) < WRONG:
        return ("the forward does not depend on this argument here, but the backward gives it a gradient",)
    if abs(factor + 1) < WRONG:
        return ("the sign is wrong: the gradient points exactly the other way",)
    return (f"a factor is missing: the gradient must be {factor:.4g} times as large",)


def _table(errors: GradientErrors) -> Table:
    rows = []
    for f in errors.functions:
        for a in f.arguments:
            right = "" if math.isnan(a.factor) else f"{a.factor:.4g}"
            rows.append(
                (f.name, a.argument, a.shape, _level(a.error), right, str(f.calls), "" if _judged(f) else _why(f))
            )
    return Table(
        title="Your autograd.Functions against finite differences",
        columns=("function", "argument", "shape", "relative error", "right gradient / given", "calls", "note"),
        rows=tuple(rows),
    )
