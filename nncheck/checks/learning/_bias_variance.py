"""Ng's questions to a run: how far from the target on samples trained on, how much farther on others, and what that calls for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nncheck.probes.item_repeats import ItemRepeats
from nncheck.probes.regularisers import Regularisers
from nncheck.probes.rehearsal import Level, Rehearsal
from nncheck.verdict import Table

# A gap that is worth a word: a tenth of the larger error, and three standard errors.
GAP, CLEAR = 0.1, 3.0
# The loss still falls: its mean over so many updates is three standard errors below that of as many before.
STRETCH = 15


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors in one unit, in eval mode after the run. fresh: on training samples never trained on; target: what is aimed at.

    uncertain: the standard error of the difference between `train` and `validation`.
    """

    unit: str
    train: float
    validation: float
    fresh: float | None
    target: float | None
    uncertain: float

    @property
    def bias(self) -> float:
        """What is avoidable of the error on samples trained on; all of it where no target is known."""
        return self.train - (self.target or 0.0)

    @property
    def variance(self) -> float:
        return self.validation - self.train

    @property
    def gap(self) -> bool:
        return self.variance > max(GAP * abs(self.validation), CLEAR * self.uncertain)


def errors_of(run: Rehearsal, rules: Regularisers | None) -> Errors | None:
    """The share of wrong answers where there are labels, else the loss; None without a validation set."""
    seen, validation = run.seen.eval_after, run.validation.eval_after if run.validation is not None else None
    if seen is None or validation is None:
        return None
    fresh = run.fresh.eval_after if run.fresh is not None else None
    shares = seen.wrong is not None and validation.wrong is not None
    target = rules.target_error if rules is not None else None
    return Errors(
        unit="wrong answers" if shares else "loss",
        train=_error(seen, shares=shares),
        validation=_error(validation, shares=shares),
        fresh=None if fresh is None else _error(fresh, shares=shares),
        target=None if target is None or (shares and target > 1) else target,
        uncertain=math.hypot(_uncertain(seen, shares=shares), _uncertain(validation, shares=shares)),
    )


def advice(run: Rehearsal, rules: Regularisers | None, items: ItemRepeats | None, *, far: bool) -> str:
    """A few sentences. far: the loss on samples trained on is still nearer to the best constant's than to its floor."""
    errors = errors_of(run, rules)
    if errors is None or not math.isfinite(errors.validation + errors.train):
        return ""
    words: list[str] = []
    if rules is not None and rules.target_error is not None and errors.target is None:
        words.append(
            f"target_error = {rules.target_error:g} is no share of wrong answers: give {rules.target_error / 100:g} for "
            f"{rules.target_error:g} %"
        )
    used = in_use(rules, items)
    held = f" In use: {', '.join(used)}" if used else " No regulariser is in use"
    falling = _falls_still(run)
    if errors.target is not None and errors.validation <= errors.target:
        words.append(f"The target of {_said(errors.target, errors)} is reached on validation samples")
    elif errors.gap and not (errors.target is not None and errors.bias > errors.variance):
        unused = _unused(rules, items)
        more = f"more data{', ' + ', '.join(unused) if unused else ', or more of what is in use'}"
        words.append(
            f"The gap to validation is {_said(errors.variance, errors)}: if it stays in a longer run, {more} close it.{held}"
        )
    elif far or (errors.target is not None and errors.bias > CLEAR * errors.uncertain):
        less = " or less of what holds it back" if used else ""
        words.append(
            f"Both are still high: train longer or with a larger network{less} before adding data or regularisers.{held}"
        )
    else:
        words.append(f"There is no gap to close yet.{held}")
    if falling is not None:
        words.append(
            f"The loss still falls (from {falling[0]:.3g} to {falling[1]:.3g} over the last {2 * STRETCH} updates): a longer "
            "run shows more than any change"
        )
    return ". ".join(words)


def table(run: Rehearsal, rules: Regularisers | None) -> tuple[Table, ...]:
    """The errors and the steps between them."""
    errors = errors_of(run, rules)
    if errors is None:
        return ()
    target = "not given (`target_error`): 0 is taken" if errors.target is None else _said(errors.target, errors)
    rows = [
        ("error aimed at", target, ""),
        ("samples trained on", _said(errors.train, errors), f"avoidable bias {_said(errors.bias, errors)}"),
    ]
    if errors.fresh is not None:
        apart = _said(errors.fresh - errors.train, errors)
        rows.append(("new samples of the training set", _said(errors.fresh, errors), f"variance {apart}"))
        apart = _said(errors.validation - errors.fresh, errors)
        rows.append(("validation samples", _said(errors.validation, errors), f"other kind of data {apart}"))
    else:
        rows.append(
            ("validation samples", _said(errors.validation, errors), f"variance {_said(errors.variance, errors)}")
        )
    columns = ("", errors.unit, "step from the line above")
    return (Table(title=f"Bias and variance after {len(run.losses)} updates", columns=columns, rows=tuple(rows)),)


def numbers(errors: Errors | None) -> dict[str, float]:
    if errors is None:
        return {}
    found = {"bias": errors.bias, "variance": errors.variance}
    return found if errors.target is None else {**found, "target_error": errors.target}


def in_use(rules: Regularisers | None, items: ItemRepeats | None) -> list[str]:
    """The regularisers seen, in words."""
    used: list[str] = []
    if rules is not None:
        if rules.dropout or rules.calls:
            used.append(f"dropout of {rules.dropout:g}" if rules.dropout else "dropout")
        if rules.decay:
            used.append(f"weight decay of {rules.decay:g}")
        if rules.smoothing:
            used.append(f"label smoothing of {rules.smoothing:g}")
    if _augmented(items):
        used.append("augmentation")
    return used


def _unused(rules: Regularisers | None, items: ItemRepeats | None) -> list[str]:
    known = {
        "augmentation": _augmented(items),
        "weight decay": rules is not None and rules.decay > 0,
        "dropout": rules is not None and (rules.dropout > 0 or rules.calls),
    }
    unused = [name for name, used in known.items() if not used]
    return [*unused[:-1], f"or {unused[-1]}"] if unused else []


def _augmented(items: ItemRepeats | None) -> bool:
    return items is not None and items.vary > 0


def _falls_still(run: Rehearsal) -> tuple[float, float] | None:
    """The mean losses of the last two stretches of the run, if the later is lower for certain."""
    if len(run.losses) < 4 * STRETCH:
        return None
    was, now = run.losses[-2 * STRETCH : -STRETCH], run.losses[-STRETCH:]
    first, last = sum(was) / STRETCH, sum(now) / STRETCH
    spread = sum((x - first) ** 2 for x in was) + sum((x - last) ** 2 for x in now)
    error = math.sqrt(spread / (2 * STRETCH - 2) * 2 / STRETCH)
    return (first, last) if first - last > CLEAR * error else None


def _error(level: Level, *, shares: bool) -> float:
    return level.wrong if shares and level.wrong is not None else level.mean


def _uncertain(level: Level, *, shares: bool) -> float:
    number = len(level.losses)
    if shares and level.wrong is not None:
        return math.sqrt(level.wrong * (1 - level.wrong) / max(1, number))
    return level.error if math.isfinite(level.error) else 0.0


def _said(value: float, errors: Errors) -> str:
    return f"{value:.1%}" if errors.unit == "wrong answers" else f"{value:.3g}"
