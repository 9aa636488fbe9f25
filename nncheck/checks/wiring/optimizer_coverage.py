"""The optimizer does not hold what the loss depends on, or holds what it does not.

What it does
    Walks from the loss back to the leaves of its graph and compares them with the model's parameters and with the
    optimizer's groups. Also takes the optimizer's own steps and looks at what they move.
Why it matters
    Layers kept in a plain list, a head that was replaced after the optimizer was built, a group with rate 0: the
    forward uses them, the backward reaches them, and they stay random to the end without any message.
How to fix
    Keep layers in `nn.ModuleList`, `nn.ModuleDict` or `nn.Sequential` and tensors in `nn.Parameter`, and build the
    optimizer last, from all parameters that are to be trained (the loss's own too). Freeze with `requires_grad_(False)`.
Known limits
    What is frozen by `requires_grad_(False)`, kept in eval mode or held by another optimizer counts as meant. One batch
    decides what the loss depends on.
Source
    PyTorch documentation, `torch.optim`: construct the optimizer from the model's parameters after they are in place;
    `nn.ModuleList`: layers in a plain list are not registered.
"""

import dataclasses
import re

from nncheck.probes.gradients import Gradients, ParameterGradients
from nncheck.probes.graph_leaves import GraphLeaves, Stray
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Status, Table, Verdict, skipped

# An update smaller than this share of the weight may be lost to float32's resolution of 6e-8 without anything being wrong.
_VISIBLE = 1e-5
# Trained share below which, with a last layer frozen at its random start, a freezing loop has matched the wrong names.
_TRAINED_SHARE = 0.01
# A generator's step goes through its adversary, which another optimizer trains in another step.
_ADVERSARY = re.compile(r"disc|critic|advers|(^|\.)(net)?_?D(\.|$)")

_HOW = {
    "list": "in a Python list",
    "dict": "in a Python dict",
    "tuple": "in a tuple",
    "tensor": "a plain tensor, not an nn.Parameter",
    "computed": "computed from a parameter once, so no parameter itself",
    "object": "in an attribute that modules do not register",
    "loss": "a parameter of the loss",
    "closure": "outside the model",
    "forward": "made anew in every forward",
    "unknown": "held outside the model",
}


class _Findings:
    """Faults in order of weight, gathered one kind at a time."""

    def __init__(self) -> None:
        self.status = Status.PASS
        self.summaries: list[str] = []
        self.places: list[Place] = []
        self.causes: list[str] = []
        self.remedies: list[Remedy] = []

    def add(self, status: Status, summary: str, places: list[Place], cause: str, remedy: Remedy) -> None:
        if status is Status.FAIL or self.status is Status.PASS:
            self.status = status
        self.summaries.append(summary)
        self.places.extend(places)
        self.causes.append(cause)
        self.remedies.append(remedy)


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"), part="optimizer")
def optimizer_coverage(leaves: GraphLeaves, steps: Gradients) -> Verdict:
    """Judge the leaves against the optimizer."""
    if not (leaves.covered or leaves.uncovered or leaves.strays or leaves.stale):
        return skipped("nothing is trainable")
    found = _Findings()
    _strays(leaves, found)
    _uncovered(leaves, found)
    _groups(leaves, found)
    _steps(leaves, steps, found)
    _rest(leaves, found)
    measured = (
        f"the loss depends on {len(leaves.trained) + len(leaves.uncovered) + len(leaves.strays)} trainable tensors; "
        f"{leaves.optimizer} holds {len(leaves.trained) + sum(s.optimized for s in leaves.strays)} of them"
        + (f", {leaves.frozen} are frozen" if leaves.frozen else "")
    )
    return Verdict(
        status=found.status,
        measured=measured,
        expected="the optimizer holds every tensor the loss trains, once, at a rate above 0",
        summary="; ".join(found.summaries[:2]),
        numbers={
            "trained": float(len(leaves.trained)),
            "uncovered": float(len(leaves.uncovered)),
            "unregistered": float(len(leaves.strays)),
            "stale": float(len(leaves.stale)),
            "trained_share": leaves.share,
        },
        places=tuple(found.places),
        causes=tuple(found.causes),
        remedies=tuple(found.remedies),
        exhibits=_table(leaves),
    )


def faulty(stray: Stray) -> bool:
    """Whether an unregistered tensor that the loss depends on is forgotten, and not kept apart on purpose."""
    return not (stray.optimized or stray.elsewhere or stray.asleep)


def _strays(leaves: GraphLeaves, found: _Findings) -> None:
    strays = [s for s in leaves.strays if faulty(s)]
    inside = [s for s in strays if s.how in ("list", "dict", "tuple", "tensor", "computed", "object")]
    if inside:
        first = inside[-1]
        found.add(
            Status.FAIL,
            f"{_some([s.path for s in reversed(inside)])} {'is' if len(inside) == 1 else 'are'} used by the loss but not "
            f"registered ({_HOW[first.how]}), so {leaves.optimizer} never moves {'it' if len(inside) == 1 else 'them'}",
            _once([_at(s.path, s.place or s.used, _HOW[s.how]) for s in reversed(inside)]),
            "`model.parameters()` sees only nn.Parameter attributes and modules held by modules",
            _register(first),
        )
    fresh = [s for s in strays if s.how == "forward"]
    if fresh:
        found.add(
            Status.FAIL,
            f"{len(fresh)} parameter{'s' * (len(fresh) > 1)} made anew in every forward: random again at each call",
            _once([_at(s.path, s.used or s.place, _HOW[s.how]) for s in fresh]),
            "a layer is constructed inside `forward`",
            Remedy(text="construct the layer in `__init__` and only call it in `forward`"),
        )
    outside = [s for s in strays if s.how in ("loss", "closure", "unknown") and s.parameter]
    if outside and not leaves.default_optimizer:
        found.add(
            Status.WARN,
            f"{_some([s.path for s in outside])} {'is' if len(outside) == 1 else 'are'} used by the loss but not in "
            f"{leaves.optimizer}",
            _once([_at(s.path, s.place or s.used, _HOW[s.how]) for s in outside]),
            "the loss or a second module has parameters of its own, and the optimizer was given the model's only",
            Remedy(
                text="give the optimizer these parameters too, or freeze them",
                code=f"{leaves.optimizer}([*model.parameters(), *loss_fn.parameters()], ...)",
            ),
        )


def _uncovered(leaves: GraphLeaves, found: _Findings) -> None:
    if leaves.default_optimizer:
        return
    if leaves.covered and not leaves.trained and not leaves.stale:
        return  # what the optimizer holds gets no gradient at all: that is unused-parameters' finding, and the cause
    missing = [u for u in leaves.uncovered if not (u.elsewhere or u.asleep or _ADVERSARY.search(u.name))]
    if missing:
        names = [u.name for u in missing]
        if leaves.stale:
            summary = f"{leaves.optimizer} holds {len(leaves.stale)} tensors that the model no longer has, and not {_some(names)}"
            cause = "the optimizer was built before a layer was replaced or the model was made again"
        else:
            summary = (
                f"{_some(names)} {'is' if len(names) == 1 else 'are'} trainable and used, but not in {leaves.optimizer}"
            )
            cause = "the optimizer was given a part of the model only, or a hand-made group list forgets a module"
        places = [] if leaves.optimizer_place is None else [_at("optimizer", leaves.optimizer_place, "built here")]
        places += _once([_at(u.name, u.place, "never updated") for u in missing])
        found.add(
            Status.FAIL,
            summary,
            places,
            cause,
            Remedy(
                text="build the optimizer after the model is complete, from all of its parameters; "
                "freeze what is not to be trained with `requires_grad_(False)`",
                code=f"optimizer = torch.optim.{leaves.optimizer}(model.parameters(), ...)",
            ),
        )


def _groups(leaves: GraphLeaves, found: _Findings) -> None:
    still = [g for g in leaves.groups if g.rate == 0 and not g.scheduled and g.trainable]
    if still:
        where = [
            _at(f"optimizer group {g.index}", leaves.optimizer_place, f"lr=0: {_some(list(g.names))}") for g in still
        ]
        found.add(
            Status.FAIL,
            f"group {still[0].index} of {leaves.optimizer} has lr=0 and no scheduler: "
            f"{_some(list(still[0].names)) or 'its tensors'} will not move",
            where,
            "a learning rate of 0 was given, or rounded to 0",
            Remedy(text="give the group a rate, or freeze its parameters with `requires_grad_(False)`"),
        )
    if leaves.repeated:
        found.add(
            Status.WARN,
            f"{_some(list(leaves.repeated))} {'is' if len(leaves.repeated) == 1 else 'are'} in {leaves.optimizer} twice",
            [_at(name, leaves.optimizer_place, "updated twice each step") for name in leaves.repeated],
            "group lists overlap",
            Remedy(text="list every parameter in one group only"),
        )


def _steps(leaves: GraphLeaves, steps: Gradients, found: _Findings) -> None:
    if steps.step_error:
        found.add(
            Status.FAIL,
            f"optimizer.step() raises {steps.step_error}",
            [_at("optimizer", leaves.optimizer_place, "its step raises")],
            "the optimizer cannot work with these gradients",
            Remedy(text="choose an optimizer that can work with them"),
        )
        return
    lost = [p for p in steps.parameters if steps.stepped and _lost(p)]
    if lost:
        some = any(p.moved for p in steps.parameters)
        found.add(
            Status.FAIL if some else Status.WARN,
            f"optimizer.step() does not change {_some([p.name for p in lost])} although "
            f"{'it has' if len(lost) == 1 else 'they have'} a gradient and a rate",
            [_at(p.name, leaves.optimizer_place, "in the optimizer, never changed") for p in lost],
            "the optimizer updates a copy, skips these parameters or loses the update",
            Remedy(text="update parameters in place, under `torch.no_grad()`"),
        )


def _lost(row: ParameterGradients) -> bool:
    if row.moved or not row.rate or not row.trainable or len(row.weight) < 3:
        return False
    sizes = [g for g in row.gradients[:2] if g is not None]
    return len(sizes) == 2 and all(row.rate * g > _VISIBLE * w for g, w in zip(sizes, row.weight, strict=False))


def _rest(leaves: GraphLeaves, found: _Findings) -> None:
    for typo in leaves.typos:
        meant = "requires_grad"
        found.add(
            Status.WARN,
            f"`{typo.owner}.{typo.attribute} = False` freezes nothing: {_some(list(typo.names))} still trains",
            [typo.place or Place(name=typo.owner, detail=f"has an attribute {typo.attribute}")],
            f"a parameter's switch is called {meant}; a module has none, only the method requires_grad_()",
            Remedy(text="freeze with the method", code=f"model.{typo.owner}.requires_grad_(False)"),
        )
    for twins in leaves.twins:
        found.add(
            Status.WARN,
            f"{twins.teacher} starts as a copy of {twins.student} and both are in {leaves.optimizer}",
            [twins.place] if twins.place else [],
            "a teacher, target or moving-average network is trained by gradient as well",
            Remedy(text="freeze the copy", code=f"model.{twins.teacher}.requires_grad_(False)"),
        )
    if (
        leaves.random_head is not None
        and leaves.share < _TRAINED_SHARE
        and leaves.frozen
        and not leaves.default_optimizer
    ):
        found.add(
            Status.WARN,
            f"{leaves.share:.2%} of the weights are trained, and the last layer is frozen at its random start",
            [leaves.random_head],
            "a freezing loop matches the wrong names",
            Remedy(text="unfreeze the last layer", code=f"model.{leaves.random_head.name}.requires_grad_(True)"),
        )


def _register(stray: Stray) -> Remedy:
    if stray.how in ("tensor", "computed"):
        return Remedy(text="make the attribute itself a parameter", code=f"self.{stray.path} = nn.Parameter(...)")
    holder = stray.path.partition("[")[0]
    if stray.how == "dict":
        return Remedy(text="hold the layers in a module", code=f"self.{holder} = nn.ModuleDict({{...}})")
    return Remedy(text="hold the layers in a module", code=f"self.{holder} = nn.ModuleList([...])")


def _at(name: str, place: Place | None, detail: str) -> Place:
    if place is None:
        return Place(name=name, detail=detail)
    return dataclasses.replace(place, name=name, detail=detail)


def _once(places: list[Place]) -> list[Place]:
    """One place a source line: the weight and the bias of a layer are made together."""
    seen: dict[tuple[str | None, int | None, str], Place] = {}
    for place in places:
        key = (place.file, place.line, "" if place.line else place.name)
        seen.setdefault(key, place)
    return list(seen.values())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _table(leaves: GraphLeaves) -> tuple[Table, ...]:
    rows = [(u.name, str(list(u.shape)), "in the model, not in the optimizer") for u in leaves.uncovered]
    rows += [(s.path, str(list(s.shape)), _HOW[s.how] + (", in the optimizer" * s.optimized)) for s in leaves.strays]
    rows += [("?", str(list(shape)), "in the optimizer, used by nothing") for shape in leaves.stale]
    if not rows:
        return ()
    title = "Used by the loss, or held by the optimizer, but not both"
    return (Table(title=title, columns=("tensor", "shape", "where"), rows=tuple(rows[:40])),)
