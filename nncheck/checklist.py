"""The whole recipe as a checklist: what the checks tick by themselves, and what only a person can.

Karpathy's "A Recipe for Training Neural Networks" (2019) in its six phases, with what Goodfellow et al. ("Deep Learning",
chapter 11) and Google's tuning playbook add to it. A person ticks an item by a note in nncheck.toml:

    [checklist]
    human-baseline = "two annotators on 200 images: 4.1 % wrong"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nncheck.verdict import ChecklistItem, Status

PHASES = (
    "become one with the data",
    "set up the skeleton and get dumb baselines",
    "overfit",
    "regularise",
    "tune",
    "squeeze out the juice",
)
_DATA, _SKELETON, _OVERFIT, _REGULARISE, _TUNE, _SQUEEZE = PHASES


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is to be done. `checks`: ids that tick it when none of them finds anything; empty: a person does."""

    id: str
    phase: str
    text: str
    checks: tuple[str, ...] = ()


def _by_hand(id: str, phase: str, text: str) -> Item:
    return Item(id=id, phase=phase, text=text)


def _by_checks(id: str, phase: str, text: str, *checks: str) -> Item:
    return Item(id=id, phase=phase, text=text, checks=checks)


ITEMS = (
    _by_hand("samples-seen", _DATA, "Hundreds of samples looked at by eye, each with its label"),
    _by_hand("labels-judged", _DATA, "Some labels judged again by hand: the share of wrong ones is known"),
    _by_hand("human-baseline", _DATA, "How well a person, or the best known method, does on the same data is measured"),
    _by_hand(
        "honest-split",
        _DATA,
        "What belongs together (a patient, a speaker, a document, a period of time) lies on one side of the split",
    ),
    _by_hand("test-set-apart", _DATA, "A test set lies apart, and is looked at once, at the end"),
    _by_checks("input-seen", _DATA, "What enters the first layer is what was meant", "input-preview"),
    _by_checks("scale", _DATA, "Inputs are centred and scaled", "data-scale"),
    _by_checks("labels", _DATA, "Labels fit the loss, and classes come as they should", "label-range", "class-balance"),
    _by_checks("no-duplicates", _DATA, "Samples are distinct and their labels agree", "duplicate-samples"),
    _by_checks("shuffled", _DATA, "Batches come in random order", "shuffle"),
    _by_checks(
        "split", _DATA, "Training and validation are apart, and alike", "train-val-leakage", "train-val-shift", "validation-data",
    ),
    _by_hand("metric", _SKELETON, "The metric is the one that matters, and is taken over the whole evaluation set at once"),
    _by_hand("simple-first", _SKELETON, "Complexity is added one piece at a time, and each piece has to show its gain"),
    _by_checks("runs", _SKELETON, "One training step runs and all numbers are finite", "forward-pass", "finite-values"),
    _by_checks("seed", _SKELETON, "The same seed gives the same numbers", "reproducibility", "late-seed"),
    _by_checks(
        "loss", _SKELETON, "The loss pairs predictions with their targets", "loss-broadcast", "double-softmax", "output-range"
    ),
    _by_checks("start", _SKELETON, "The loss starts where it should", "loss-at-init", "output-bias-init"),
    _by_checks(
        "signals", _SKELETON, "Signals and gradients pass through every layer",
        "activation-scale", "symmetry", "dead-relu", "saturation", "gradient-flow",
    ),
    _by_checks(
        "samples-apart", _SKELETON, "Backprop stays inside a sample, and does not see the future",
        "batch-mixing", "batch-consistency", "time-leakage",
    ),
    _by_checks("inputs-used", _SKELETON, "Every input matters", "input-dependency", "input-baseline"),
    _by_checks("gradients", _SKELETON, "Gradients are right", "gradient-check"),
    _by_checks("trained", _SKELETON, "Every parameter is used and trained", "unused-parameters", "optimizer-coverage"),
    _by_checks(
        "loop", _SKELETON, "The training step clears, scales, clips and applies its gradients in order",
        "zero-grad", "gradient-accumulation", "gradient-clipping", "optimizer-step",
    ),
    _by_checks(
        "epochs", _SKELETON, "From epoch to epoch the loop keeps its optimizer, steps its schedule and lets old graphs go",
        "optimizer-replaced", "scheduler-step", "graph-retention", "host-sync",
    ),
    _by_checks("modes", _SKELETON, "Training and evaluation modes do what they say", "eval-mode", "train-eval-mode"),
    _by_checks("metric-formula", _SKELETON, "Perfect predictions score 1 by the script's own metric", "metric-definition"),
    _by_checks("baseline", _SKELETON, "Better than a simple baseline", "simple-baseline"),
    _by_hand("known-architecture", _OVERFIT, "The architecture is the simplest published one that fits the task, copied"),
    _by_checks("one-batch", _OVERFIT, "One batch can be learned by heart", "overfit-batch"),
    _by_checks(
        "learning", _OVERFIT, "The loss falls, by updates of a sane size", "loss-decreases", "learning-rate", "update-ratio"
    ),
    _by_checks("dynamics", _OVERFIT, "Predictions settle", "prediction-dynamics"),
    _by_hand("worst-mistakes", _REGULARISE, "The validation samples with the highest loss were looked at"),
    _by_hand("more-data", _REGULARISE, "More real data was considered before any regulariser"),
    _by_hand("first-layer", _REGULARISE, "What the first layer has learned was looked at: structure, not noise"),
    _by_checks("gap", _REGULARISE, "The gap between training and validation is known", "generalization"),
    _by_hand("random-search", _TUNE, "Hyper-parameters were searched at random, log-uniformly, from coarse to fine"),
    _by_hand("range-inside", _TUNE, "The best values lie inside the ranges searched, not at their edges"),
    _by_checks("schedule", _TUNE, "The schedule fits the length of the run", "lr-schedule"),
    _by_hand("several-seeds", _SQUEEZE, "The result is given over several seeds, with its spread"),
    _by_hand("left-training", _SQUEEZE, "The run was left to train until validation really stopped getting better"),
    _by_hand("averaged", _SQUEEZE, "An ensemble, or an average of weights, was tried for the last few per cent"),
    _by_checks("resumes", _SQUEEZE, "A run can be taken up again where it stopped", "checkpoint"),
)  # fmt: skip
"""Every item in the order of the recipe."""


def tick(results: Mapping[str, Status], notes: Mapping[str, str]) -> tuple[ChecklistItem, ...]:
    """The checklist after a run. `results`: what each check said; `notes`: what a person wrote, by item."""
    return tuple(_ticked(item, results, notes) for item in ITEMS)


def _ticked(item: Item, results: Mapping[str, Status], notes: Mapping[str, str]) -> ChecklistItem:
    if not item.checks:
        note = notes.get(item.id, "")
        return ChecklistItem(id=item.id, phase=item.phase, text=item.text, checks=(), done=bool(note), note=note)
    said = {id: results.get(id) for id in item.checks}
    against = [id for id, status in said.items() if status in (Status.FAIL, Status.WARN)]
    passed = [id for id, status in said.items() if status is Status.PASS]
    if against:
        done: bool | None = False
        note = f"see {', '.join(against)}"
    elif passed:
        done, note = True, f"checked by {', '.join(passed)}"
    else:
        done, note = None, f"not told by {', '.join(item.checks)}"
    return ChecklistItem(id=item.id, phase=item.phase, text=item.text, checks=item.checks, done=done, note=note)


def checklist_lines(items: tuple[ChecklistItem, ...], *, path: Path | None, asked: bool) -> list[str]:
    """The checklist as text, by phase. `path`: where the ticks were read; `asked`: whether a run's result is in it."""
    width = max(len(item.id) for item in items)
    lines: list[str] = []
    for phase in PHASES:
        lines.append(phase)
        for item in (item for item in items if item.phase == phase):
            sign = {True: "[x]", False: "[ ]", None: " . "}[item.done]
            note = item.note if asked or not item.checks else f"ticked by {', '.join(item.checks)}"
            lines.append(f"  {sign} {item.id:{width}}  {item.text}{f' ({note})' if note else ''}")
    by_hand = [item for item in items if not item.checks]
    lines += [
        "",
        f"{sum(bool(item.done) for item in by_hand)} of {len(by_hand)} items that only a person can tick are ticked",
    ]
    first = next((item.id for item in by_hand if not item.done), None)
    if first is not None:
        where = path or "nncheck.toml"
        lines.append(f'tick one by a note in {where}, under [checklist]: {first} = "what was done, what came out"')
    return lines
