"""A trainable parameter never gets a gradient, or one layer stands in a list for several.

What it does
    Takes three steps of the training as it is set up, and more while some parameter has had no gradient at all. For those
    it follows the values forward: never used, cut out of the graph at a line, or computed and then left out of the loss. Looks
    for lists in which one layer stands several times, each call going on from the one before.
Why it matters
    A branch behind a forgotten `.detach()`, `.data` or `no_grad` stays at its random start for the whole training, and
    nothing raises. A module that is defined and never called wastes memory and, with some optimizers, decays to zero. A list
    made by `[layer] * 6` has the weights of one layer, though it prints six.
How to fix
    Keep the branch in the graph: remove the `.detach()`, `.data`, `.item()` or `torch.no_grad()` at the line shown, add
    the branch's result to the output or its term to the loss, or delete the module. If it is meant to stay as it is,
    say so with `requires_grad_(False)`. Make each layer of a list anew: `[Block() for _ in range(6)]`. If layers are meant to share
    their weights, keep one and call it in a loop.
Known limits
    Parts of library models that the library itself leaves unused, experts that no sample was routed to, modules in eval
    mode and teachers and backbones run under `no_grad` are only mentioned. A module used only late in training, or only
    for inference, looks unused.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019); PyTorch forum threads on gradients that are None.
"""

import dataclasses
import re

from nncheck.probes.gradients import Gradients
from nncheck.probes.repeated_layers import Repeated, RepeatedLayers
from nncheck.probes.unreached import Branch, Unreached
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Table, Verdict, failed, passed, skipped, warned

# Names by which people say that a part is not trained by this loss: under `no_grad` with such a name, or in eval mode, or
# left out of the optimizer, it is taken as meant.
_ON_PURPOSE = re.compile(r"teacher|target|ema|momentum|frozen|freeze|codebook|reference|prior", re.IGNORECASE)
# ... and these under `no_grad` or behind a `detach`. By other ways, such as `.data` or a list of numbers, people lose a gradient
# and do not mean to; then only weights that are not as torch made them say that it was trained elsewhere.
_TRAINED_ELSEWHERE = re.compile(r"backbone|pretrain|extractor", re.IGNORECASE)

# Names by which people say that layers share their weights; a cell is one by nature.
_SHARED = re.compile(r"shar|tied|tying|albert|universal|recur|unroll|cell|siam", re.IGNORECASE)

_SAYS = {
    "never used": "never used in the forward pass",
    "cut": "used, then cut out of the graph",
    "no_grad": "used under no_grad only",
    "dropped": "computed, but its result does not reach the loss",
}


@check(
    stage=Stage.WIRING, after=("forward-pass", "finite-values"), consequence_of=("optimizer-coverage", "gradient-flow")
)
def unused_parameters(steps: Gradients, found: Unreached, lists: RepeatedLayers) -> Verdict:
    """Judge the branches that no backward pass came to, then the layers that are in a list more than once."""
    total = len(steps.trainable)
    if not total:
        return skipped("no parameter is trainable")
    idle = [b for b in found.branches if not b.silent]
    without = sum(len(b.names) for b in idle)
    if without == total:
        return skipped("no parameter at all gets a gradient: see gradient-flow")
    measured = f"{total - without} of {total} trainable parameters get a gradient within {len(steps.losses)} steps"
    faults = [b for b in idle if not meant(b)]
    notes = [b for b in idle if meant(b)]
    expected = "every trainable parameter gets a gradient"
    numbers = {"trainable": float(total), "without_gradient": float(without)}
    table = _table(idle)
    if not faults:
        if notes:
            measured += f"; without one, and as it seems on purpose: {_names(notes)}"
        again = next((r for r in lists.found if _stands_for_several(r)), None)
        if again is not None:
            return _repeated(again, measured, expected, numbers)
        return passed(measured, expected=expected, numbers=numbers, exhibits=table)
    # A cut behind a parameter that the optimizer was given is a contradiction in the set-up; an idle module may be a leftover.
    # One that goes by the name of something trained elsewhere is only a doubt, whatever its weights look like.
    certain = [b for b in faults if b.why == "cut" and b.optimized and not _TRAINED_ELSEWHERE.search(b.name)]
    first = (certain or faults)[0]
    verdict = failed if certain else warned
    ordered = [*certain, *(b for b in faults if b not in certain)]
    return verdict(
        measured,
        expected=expected,
        summary=_summary(first, len(faults)),
        numbers=numbers,
        places=tuple(_place(b) for b in ordered),
        causes=_causes(first),
        remedies=_remedies(first),
        exhibits=table,
    )


def _stands_for_several(layer: Repeated) -> bool:
    """Whether a list was meant to be a stack of layers: each call of the one there is goes on from the one before.

    Heads that are applied side by side, one to each level, share their weights on purpose.
    """
    if not layer.users or layer.calls < layer.entries or layer.chained < layer.entries - 1:
        return False
    return not any(_SHARED.search(word) for word in (layer.name, layer.module, layer.owner))


def _repeated(layer: Repeated, measured: str, expected: str, numbers: dict[str, float]) -> Verdict:
    once, code = f"{layer.size:,} weights", f"[copy.deepcopy(layer) for _ in range({layer.entries})]"
    return warned(
        f"{measured}; {layer.entries} of the {layer.length} entries of `{layer.name}` are the same {layer.module}, of {once}; "
        f"{layer.chained} of its {layer.calls} calls go on from an earlier one",
        expected=f"{expected}; {layer.entries} layers with weights of their own",
        summary=f"`{layer.name}` has one {layer.module} {layer.entries} times: they share {once}",
        numbers={**numbers, "entries": float(layer.entries), "calls": float(layer.calls)},
        places=(layer.place,),
        causes=("`[layer] * n` repeats one layer; it does not make n",),
        remedies=(
            Remedy(text="make each layer anew, or copy it", code=code),
            Remedy(text="or, if one set of weights is meant, keep one layer and call it in a loop in forward"),
        ),
    )


def meant(branch: Branch) -> bool:
    """Whether a branch without gradient looks intended."""
    if branch.asleep or branch.drifted or not branch.optimized or branch.zeroed:
        return True
    if branch.why in ("never used", "dropped") and not branch.users:
        return True  # a library model's own spare part: a pooler, a head for another task
    if branch.siblings and branch.routed:
        return True  # an expert nothing was routed to
    if branch.why not in ("no_grad", "cut"):
        return False
    if _TRAINED_ELSEWHERE.search(branch.name):
        return branch.why == "no_grad" or branch.cut.startswith("detach") or not branch.fresh
    return bool(_ON_PURPOSE.search(branch.name))


def _summary(first: Branch, count: int) -> str:
    more = f" (and {count - 1} more)" if count > 1 else ""
    what = f"{first.name}{more} gets no gradient: "
    if first.why == "cut":
        return what + f"{first.cut} cuts it out of the graph"
    return what + _SAYS[first.why]


def _place(branch: Branch) -> Place:
    detail = f"{_SAYS[branch.why]}; {branch.size:,} weights"
    # The line that cuts is where to act; the line that makes the module is where to look otherwise.
    at = branch.line or branch.place
    return dataclasses.replace(at, name=branch.name, detail=detail)


def _causes(branch: Branch) -> tuple[str, ...]:
    return {
        "cut": ("`.detach()`, `.data`, `.item()`, `.numpy()` or `torch.tensor(x)` between this branch and the loss",),
        "no_grad": ("`torch.no_grad()` around a part that is meant to train",),
        "dropped": (
            "the branch's result is overwritten or never added, e.g. `x = f(x); return x` without the `+ x`",
            "a loss term is computed and not added to the loss",
        ),
        "never used": ("the module is left over, or its call was forgotten in forward",),
    }[branch.why]


def _remedies(branch: Branch) -> tuple[Remedy, ...]:
    frozen = Remedy(text="or, if it is meant to stay as it is, say so", code=f"{_code(branch)}.requires_grad_(False)")
    first = {
        "cut": f"remove the {branch.cut or 'cut'} at the line shown, so that the gradient passes",
        "no_grad": "take the call out of `torch.no_grad()`",
        "dropped": "use the branch's result in the output, or add its term to the loss",
        "never used": "call the module in forward, or delete it",
    }[branch.why]
    return (Remedy(text=first), frozen)


def _code(branch: Branch) -> str:
    return "model." + re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", branch.name)


def _names(branches: list[Branch]) -> str:
    shown = ", ".join(b.name for b in branches[:4])
    return shown + (f" and {len(branches) - 4} more" if len(branches) > 4 else "")


def _table(branches: list[Branch]) -> tuple[Table, ...]:
    if not branches:
        return ()
    rows = tuple((b.name, b.module, f"{b.size:,}", _SAYS[b.why], "meant" if meant(b) else "") for b in branches[:40])
    return (Table(title="Without gradient", columns=("part", "class", "weights", "why", ""), rows=rows),)
