"""The inputs do not help to predict samples that were not seen before.

What it does
    Trains three copies from the same start for up to 256 small updates, each on fresh samples: on the real inputs, on inputs made
    constant, and on the inputs of other samples. Compares the loss of each sample before the update that uses it, in pairs.
Why it matters
    A network whose inputs are ignored, or whose labels belong to other inputs, still lowers its loss: it learns how often each
    label comes, and then the samples by heart. Only samples not seen before tell the difference.
How to fix
    Look at inputs and labels side by side. Look for what separates them: one of two lists sorted, filtered or shuffled alone. If
    the input is ignored, follow it from the first layer to the output.
Known limits
    A warning only says that there was no sign within one short epoch; a very weak relation looks the same. Says nothing with fewer
    than 1,000 fresh samples, without targets of their own (language models on bare tokens, autoencoders), or for graphs.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): input-independent baseline. Prequential comparison: Dawid (1984).
"""

from typing import Any

from nncheck.checks._near import Edge, mean_error, near, uncertain
from nncheck.probes.input_baseline import AHEAD, InputBaseline
from nncheck.registry import check
from nncheck.verdict import Curve, Line, Remedy, Stage, Status, Verdict, failed, passed, skipped, warned

# Outputs that differ by less than float32's rounding of a deep network do not depend on the input.
IGNORED = 1e-6
# Before a warning: this many fresh samples and updates. In 32 runs without any relation (classes, two classes, regression; 1,800
# to 2,000 samples) the lead over constant inputs had t between -4.5 and 1.3, 31 of them below 0, and the lead over exchanged ones
# below 2.3; in 16 with 20 % of the labels right (8) or 8 % of the variance explained (8) it was never below 0.3, and all 6 with
# 40 % right passed. Of 8 with 2 % explained 5 were below 0: so weak a relation looks like none, and this never fails. With fewer
# than 96 updates a weak relation still has t = -0.4, hence the stricter limit there.
SAMPLES, UPDATES = 1000, 64
NO_LEAD, LONG, NO_LEAD_SHORT = 0.0, 96, -1.0
NO_PAIRING = 2.0


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "input-preview",
        "data-scale",
        "label-range",
        "class-balance",
        "loss-broadcast",
        "loss-at-init",
        "output-bias-init",
        "activation-scale",
        "dead-relu",
        "saturation",
        "gradient-flow",
        "symmetry",
        "batch-mixing",
        "gradient-check",
        "unused-parameters",
        "optimizer-coverage",
        "double-softmax",
        "simple-baseline",
    ),
)
def input_baseline(runs: InputBaseline) -> Verdict:
    """Judge the leads of the real inputs."""
    spread = {
        name: mean_error(losses[len(losses) // 2 :])
        for name, losses in (("real", runs.real), ("constant", runs.constant), ("permuted", runs.permuted))
    }
    verdict = _judge(runs)
    # A t is counted in standard errors of its own.
    return uncertain(verdict, {**spread, "t_constant": 1.0, "t_permuted": 1.0}, _near(runs, verdict))


def _near(runs: InputBaseline, verdict: Verdict) -> str:
    leads = (
        ("the t over constant inputs", runs.over_constant.t),
        ("the t over exchanged inputs", runs.over_permuted.t),
    )
    if runs.helps:  # a look that had decided nothing would have been followed by another
        return near(*(Edge(name=name, value=t, limit=AHEAD, error=1.0) for name, t in leads)) if runs.last else ""
    if verdict.status is not Status.WARN:
        return ""
    return near(
        *(
            Edge(name=name, value=t, limit=limit, error=1.0, above=False)
            for (name, t), limit in zip(leads, (_no_lead(runs), NO_PAIRING), strict=True)
        )
    )


def _no_lead(runs: InputBaseline) -> float:
    return NO_LEAD if runs.updates >= LONG else NO_LEAD_SHORT


def _judge(runs: InputBaseline) -> Verdict:
    constant, permuted = runs.over_constant, runs.over_permuted
    levels = [_later(losses) for losses in (runs.real, runs.constant, runs.permuted)]
    measured = (
        f"after {runs.updates // 2} updates of {runs.optimizer} the loss on {constant.pairs} fresh samples is "
        f"{levels[0]:.4g} with the inputs, {levels[1]:.4g} with constant ones (t = {constant.t:.1f}), {levels[2]:.4g} with those "
        f"of other samples (t = {permuted.t:.1f})"
    )
    expected = "a lower loss with the real inputs than with constant or exchanged ones"
    details: dict[str, Any] = {
        "numbers": {
            "real": levels[0],
            "constant": levels[1],
            "permuted": levels[2],
            "t_constant": constant.t,
            "t_permuted": permuted.t,
            "samples": float(runs.samples),
        },
        "exhibits": (_curve(runs),),
    }
    if runs.helps:
        return passed(measured, expected=expected, **details)
    if runs.ignored is not None and runs.ignored < IGNORED:
        return failed(
            f"outputs for real and for constant inputs differ by {runs.ignored:.1g} of the largest; {measured}",
            expected="outputs that depend on the input",
            summary="the input is ignored: the output is the same whatever goes in",
            causes=(
                "the input is cut off on its way: multiplied by zero, overwritten, detached, all units dead",
                "the model computes its output from something else than its input",
            ),
            remedies=(Remedy(text="follow one sample through the layers and see where it stops making a difference"),),
            **details,
        )
    enough = (
        runs.learned_in is not None
        and runs.updates >= max(UPDATES, runs.learned_in)
        and runs.samples >= SAMPLES
        and constant.pairs > 1
    )
    if enough and constant.t < _no_lead(runs) and permuted.t < NO_PAIRING:
        return warned(
            measured,
            expected=expected,
            summary=f"no sign in {runs.samples:,} fresh samples that the inputs help: the labels may not belong to them",
            causes=(
                "inputs and labels are out of step: one of them was sorted, filtered or shuffled alone",
                "the labels are random, or the inputs do not carry what decides them",
                "the task is very hard: then this is no fault",
            ),
            remedies=(
                Remedy(text="look at ten inputs with their labels as they come out of the loader: are they right?"),
                Remedy(text="build inputs and labels from one list of pairs, and shuffle only that"),
            ),
            **details,
        )
    return skipped(f"undecided after {runs.samples:,} fresh samples", measured=measured, **details)


def _later(losses: tuple[float, ...]) -> float:
    later = losses[len(losses) // 2 :]
    return sum(later) / max(1, len(later))


def _curve(runs: InputBaseline) -> Curve:
    lines = []
    for label, losses in (
        ("real inputs", runs.real),
        (f"constant inputs ({runs.how})", runs.constant),
        ("inputs of other samples", runs.permuted),
    ):
        smooth = [sum(losses[max(0, i - 7) : i + 1]) / len(losses[max(0, i - 7) : i + 1]) for i in range(len(losses))]
        lines.append(Line(label=label, x=tuple(float(i) for i in range(len(losses))), y=tuple(smooth)))
    return Curve(
        title="Loss on fresh samples before the update that uses them, mean of eight",
        x_label="update",
        y_label="loss",
        lines=tuple(lines),
    )
