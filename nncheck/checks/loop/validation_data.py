"""The script validates on its training data, or trains on its validation data.

What it does
    Lets a copy of the script go on for a few short epochs and watches what it does with each of its loaders: which ones the
    optimizer steps on, which ones are only looked at, and which items of which data set they draw. Of a script without loaders,
    compares the rows of real numbers that its model is given with and without gradients.
Why it matters
    A score on samples that the network was trained on says how well it remembers. A validation whose batches are stepped on is
    part of the training from then on, and every later score on it is too good.
How to fix
    Give the validation a loader of its own over the samples that were held out. Keep `backward()` and `optimizer.step()` out of
    it: `model.eval()` and `torch.no_grad()` around a loop that only measures.
Known limits
    Roles are told by what is done with a loader and by what it and its scores are called. A pass over the training data beside a
    validation is fine. Overlaps in part are train-val-leakage's.
Source
    Kaufman, Rosset and Perlich, "Leakage in data mining: formulation, detection, and avoidance" (2012).
"""

import re
from typing import Any

from nncheck.probes.rows_seen import RowsSeen
from nncheck.probes.validation_course import LoaderCourse, ValidationCourse
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, skipped

# Two batches in a row with a step after each are no accident of a validation that runs inside of an iteration.
STEPPED = 2
# Overlaps in part may be meant, or are named by what compares the samples.
WHOLE = 0.9
# So many different rows of real numbers are not all among others by chance.
FEWEST_ROWS = 16

_THINGS = r"(s|_?(loader|dataloader|data_?loader|dl|data|dataset|ds|set|iter|iterator|gen|generator|batches|queue|batch))?s?\d*"
_HELD_OUT = re.compile(rf"(val|valid|validation|validate|test|testing|dev|held_?out){_THINGS}")


@check(stage=Stage.LOOP)
def validation_data(course: ValidationCourse, rows: RowsSeen | None) -> Verdict:
    looked = [one for one in course.loaders if one.looks]
    stepped = sum(one.steps > 0 for one in course.loaders)
    if not course.loaders:
        return _without_loaders(rows) or skipped("the script's loop has no loader that could be watched")
    measured = f"{stepped} of {len(course.loaders)} loaders are stepped on, {len(looked)} are looked at without a step"
    details: dict[str, Any] = {
        "expected": "steps on training batches only, and a validation on others",
        "numbers": {"loaders": float(len(course.loaders)), "stepped": float(stepped), "looked_at": float(len(looked))},
    }
    trained = next((one for one in course.loaders if _trained_as_validation(one, course)), None)
    if trained is not None:
        name = _name(trained)
        return failed(
            f"{measured}; a step of the optimizer followed on {trained.alone} batches of {name}",
            summary=f"the optimizer steps on the batches of {name}, which validates",
            places=_places(trained),
            causes=(
                "a function that trains is called for the validation as well",
                "backward and step stand in its loop",
            ),
            remedies=(
                Remedy(text="measure only", code="model.eval()\nwith torch.no_grad():\n    output = model(inputs)"),
            ),
            **details,
        )
    if not looked or any(one.share < WHOLE for one in looked):
        return passed(measured, **details)
    judged = next((one for one in looked if _is_validation(one, course)), None)
    if judged is None:
        return passed(f"{measured}, all of them training data", **details)
    what = {"loader": "the training loader itself", "data set": "the training loader's own data set"}.get(
        judged.same, "a data set equal to the one trained on"
    )
    return failed(
        f"{measured}; {judged.share:.0%} of what the validation draws, from {what}, is trained on",
        summary=f"the validation looks at training samples: it goes through {what}",
        places=_places(judged),
        causes=("the loop, or the loader, was given the training part",),
        remedies=(
            Remedy(
                text="validate on the samples that were held out",
                code="val_loader = DataLoader(val_set, batch_size=256)",
            ),
        ),
        **details,
    )


def _without_loaders(rows: RowsSeen | None) -> Verdict | None:
    """Rows that a script's own functions bring; they are a validation's by what they, or those left without use, are called."""
    if rows is None or rows.looked < FEWEST_ROWS:
        return None
    measured = (
        f"{rows.shared:,} of {rows.looked:,} different rows that the model was given without gradients are trained on"
    )
    details: dict[str, Any] = {
        "expected": "a validation on rows that are not trained on",
        "numbers": {"looked_at": float(rows.looked), "shared": float(rows.shared)},
    }
    unused = [place for place in rows.unused if _held_out((place.name,))]
    if rows.shared < rows.looked or not (unused or _held_out(rows.variables)):
        return passed(measured, **details)
    left = f", and no line uses {' and '.join(place.name for place in unused[:2])}" if unused else ""
    return failed(
        measured + left,
        summary=f"the validation looks at training samples: every row of it is trained on{left}",
        places=() if rows.place is None else (rows.place,),
        causes=("the validation was given the training part", "the two parts were cut from the same rows"),
        remedies=(Remedy(text="validate on the rows that were held out", code="evaluate(model, x_valid, y_valid)"),),
        **details,
    )


def _trained_as_validation(one: LoaderCourse, course: ValidationCourse) -> bool:
    if one.first or one.alone < STEPPED:
        return False
    others_train = any(other is not one and other.steps and other.evaluating < other.calls for other in course.loaders)
    # A loader is for validation if it is called so, or if the model is in eval mode on its batches and on no others.
    evaluating = one.evaluating == one.calls > 0
    return others_train and (_held_out(one.variables) or evaluating)


def _is_validation(one: LoaderCourse, course: ValidationCourse) -> bool:
    names = (*one.functions, *one.targets)
    if one.validates:
        return True
    if any("train" in name.lower() for name in names):
        return False
    if one.same == "loader":
        # Of course it is called after the training; its scores are not, or the loader meant is left without any use.
        return _held_out(names) or any(_held_out((place.name,)) for place in course.unused)
    return _held_out(one.variables) and not any("train" in name.lower() for name in one.variables)


def _held_out(names: tuple[str, ...]) -> bool:
    """Whether a part of a name says validation or test: `val_loss`, `testloader`, `self.valid_dl`."""
    for name in names:
        for part in name.lower().split("."):
            if any(_HELD_OUT.fullmatch(word) for word in (part, *part.split("_"))):
                return True
    return False


def _name(one: LoaderCourse) -> str:
    called = [name for name in one.variables if _held_out((name,))] or [*one.variables]
    return called[0] if called else "the validation loader"


def _places(one: LoaderCourse) -> tuple[Place, ...]:
    return tuple(place for place in (one.loop, one.made) if place is not None and place.file is not None)
