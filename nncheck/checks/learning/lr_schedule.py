"""The learning-rate schedule does not fit the run.

What it does
    Steps the scheduler through the planned run (epochs and the batches of the loader) without training, and looks at the rate:
    dead before a quarter of the run, zero in its last part, climbing again, a warm-up longer than the run or an epoch at rate 0,
    a length counted in batches but stepped in epochs or the other way round, a schedule that raises, that drives another
    optimizer, that was stepped already, or that waits for the wrong direction of its value.
Why it matters
    A schedule written for epochs and stepped after every batch is over within the first epoch, without any message: the rest of
    the run trains nothing.
How to fix
    Give the schedule the length of the run in the unit in which it is stepped: epochs if `scheduler.step()` follows the loop over
    batches, `epochs * len(train_loader)` if it is inside. Make it from the optimizer that trains, and step it after
    `optimizer.step()`.
Known limits
    Without a number of epochs only what shows in any run is told. Unless `scheduler_interval` says how often it is stepped, or a
    `train_step` does it, the reading that makes sense is taken, and named. What a plateau scheduler is fed is read from the
    source, where there is one.
Source
    PyTorch documentation, `torch.optim.lr_scheduler`; Google's tuning playbook: warm-up of at most a tenth of the steps.
"""

import dataclasses
from typing import Any

from nncheck.checks.learning._schedule_faults import LOW, read
from nncheck.probes.first_step import FirstStep
from nncheck.probes.lr_schedule import LrSchedule
from nncheck.probes.training_loop import TrainingLoop
from nncheck.registry import check
from nncheck.verdict import Curve, Line, Place, Remedy, Stage, Verdict, failed, passed, warned

# Words for values that get smaller, and that get larger, as a network improves.
SMALLER, LARGER = (
    ("loss", "err", "mse", "mae", "nll", "perplex", "ppl"),
    ("acc", "f1", "auc", "score", "iou", "dice", "r2"),
)
# Losses of tasks without an accuracy: whatever is watched there is most likely the loss.
NO_ACCURACY = ("mse", "l1", "huber", "smooth-l1", "poisson-nll", "gaussian-nll")
EXHIBIT_POINTS = 300
# Calls of the user's training step after which its habits are known.
FEWEST_CALLS = 4
# Steps shown of a schedule without an end, in a run without a number of epochs.
UNKNOWN_SHOWN = 200


@check(stage=Stage.LEARNING, after=("forward-pass",), consequence_of=("scheduler-step",), part="scheduler")
def lr_schedule(seen: LrSchedule, step: FirstStep, loop: TrainingLoop | None) -> Verdict:
    """Judge how the scheduler is bound, then the rates it gives."""
    places = (seen.place,) if seen.place else ()
    per_call, where = _in_the_loop(loop)
    if per_call:
        # What the step is seen to do counts, whatever is said of it.
        batches = None if seen.batches is None else max(1, round(seen.batches * per_call))
        seen = dataclasses.replace(seen, interval="step", batches=batches, accumulates=False)
        places = (*where, *places)
    if seen.elsewhere:
        return failed(
            f"{seen.kind} was made with another optimizer than the one that trains",
            expected="a scheduler of the optimizer that trains",
            summary="the scheduler drives another optimizer: the rate of the one that trains never changes",
            causes=("the optimizer was made anew after the scheduler",),
            remedies=(
                Remedy(
                    text="make the scheduler last, from the optimizer that trains", code=f"{seen.kind}(optimizer, ...)"
                ),
            ),
            places=places,
        )
    if seen.plateau is not None:
        return _plateau(seen, step, places)
    unit, assumed, fault = read(seen)
    run = _run(seen, unit)
    measured = _measured(seen, unit, run) + (
        "; how often it is stepped is not said, this fits its form" if assumed else ""
    )
    details: dict[str, Any] = {
        "exhibits": _curve(seen, unit, run),
        "numbers": {"first": seen.rates[0], "peak": max(_within(seen, run)), "last": _within(seen, run)[-1]},
    }
    if seen.begun > 0 and not seen.trained and seen.stateful and max(seen.rates) > LOW * seen.meant:
        times = "once" if seen.begun == 1 else f"{seen.begun} times"
        return warned(
            f"the scheduler has taken {seen.begun} steps, the optimizer none; {measured}",
            expected="optimizer.step() before scheduler.step()",
            summary=f"the scheduler was stepped {times} before the optimizer: its first rates are never used",
            causes=("scheduler.step() comes before optimizer.step(), or was called to draw the schedule",),
            remedies=(Remedy(text="call scheduler.step() only after optimizer.step(), and never before the training"),),
            places=places,
            **details,
        )
    if fault is None:
        return passed(measured, **details)
    say = failed if fault.certain else warned
    return say(
        measured,
        expected=fault.expected,
        summary=fault.summary,
        causes=(fault.cause,),
        remedies=(fault.remedy,),
        places=places,
        **details,
    )


def _in_the_loop(loop: TrainingLoop | None) -> tuple[float, tuple[Place, ...]]:
    """How often the user's training step calls scheduler.step(), per call of it, and where; 0 if it leaves that to others."""
    if loop is None or len(loop.calls) < FEWEST_CALLS:
        return 0.0, ()
    found = [event.place for call in loop.calls for event in call.events if event.kind == "schedule"]
    # Once in all those calls is no habit.
    return (len(found) / len(loop.calls), (found[0],)) if len(found) > 1 else (0.0, ())


def _plateau(seen: LrSchedule, step: FirstStep, places: tuple[Place, ...]) -> Verdict:
    plateau = seen.plateau
    assert plateau is not None
    fed, words = plateau.fed, plateau.fed.lower()
    measured = f'{seen.kind} waits for its value to stop {"rising" if plateau.mode == "max" else "falling"} (mode="{plateau.mode}")'
    measured += f"; it is fed `{fed}`" if fed else "; what it is fed is not seen"
    falls = any(word in words for word in SMALLER) and not words.lstrip().startswith(("-", "1 -", "1.0 -"))
    rises = any(word in words for word in LARGER) and not falls and not words.lstrip().startswith(("-", "1 -", "1.0 -"))
    guessed = not fed and bool(step.losses) and all(kind in NO_ACCURACY for kind in step.losses)
    wrong = (plateau.mode == "max" and (falls or guessed)) or (plateau.mode == "min" and rises)
    if not wrong:
        return passed(measured)
    other, what = ("min", "falls") if plateau.mode == "max" else ("max", "rises")
    say = warned if guessed else failed
    return say(
        measured,
        expected=f'mode="{other}" for a value that {what} as the network improves',
        summary=f'{seen.kind}(mode="{plateau.mode}") cuts the rate while the network improves: '
        + (f"`{fed}` {what} then" if fed else "a task like this has a loss or an error to watch, which falls then"),
        causes=(f'mode="{plateau.mode}" is meant for values of the other kind',),
        remedies=(Remedy(text=f'use mode="{other}"', code=f'{seen.kind}(optimizer, mode="{other}")'),),
        places=tuple(p for p in (plateau.place, *places) if p is not None),
    )


def _run(seen: LrSchedule, unit: str) -> int | None:
    if unit == "update" and seen.updates is not None:
        return seen.updates
    if seen.epochs is None:
        return None
    return seen.epochs if unit == "epoch" else seen.epochs * (seen.batches or 1)


def _shown(seen: LrSchedule, run: int | None) -> int:
    """How many steps are shown: the run, or without one the length that the schedule was given."""
    return run or max((part.begin + (part.length or 0) for part in seen.parts), default=0) or UNKNOWN_SHOWN


def _within(seen: LrSchedule, run: int | None) -> tuple[float, ...]:
    return tuple(r for s, r in zip(seen.steps, seen.rates, strict=True) if s < _shown(seen, run))


def _measured(seen: LrSchedule, unit: str, run: int | None) -> str:
    kinds = [part.kind for part in seen.parts]
    name = seen.kind if kinds in ([], [seen.kind]) else f"{seen.kind} of {', '.join(dict.fromkeys(kinds))}"
    rates = _within(seen, run)
    over = f"{run:,} {unit}s" if run else f"{len(rates):,} {unit}s (the number of epochs is not known)"
    levels = f"{rates[0]:.3g} at first, {max(rates):.3g} at most, {rates[-1]:.3g} at the end"
    return f"{name}, stepped once an {unit}: {levels}, over {over}"


def _curve(seen: LrSchedule, unit: str, run: int | None) -> tuple[Curve, ...]:
    points = [(s, r) for s, r in zip(seen.steps, seen.rates, strict=True) if s < max(2, _shown(seen, run))]
    points = points[:: -(-len(points) // EXHIBIT_POINTS)]
    positive = all(rate > 0 for _, rate in points)
    line = Line(label=seen.kind, x=tuple(float(s) for s, _ in points), y=tuple(rate for _, rate in points))
    return (
        Curve(
            title="The rate over the planned run", x_label=unit, y_label="learning rate", lines=(line,), log_y=positive
        ),
    )
