"""Training cannot be taken up again from what is saved.

What it does
    Takes one update, saves the state dicts of model, loss, optimizer and schedule in memory, and goes on for one update. Then
    starts again with other weights, loads what was saved, and goes on likewise: the outputs in eval mode, the next loss, the
    next update and the next learning rate must be the same. What differs and is in no state dict is named. Weights that your
    own code loads while the set-up is made must fit, and must still be there.
Why it matters
    A tensor in a plain attribute, a layer in a plain list or an optimizer's own buffer is not saved: after a restart the
    network is another one, and nothing says so. The loss jumps, or the validation numbers of the saved file are never
    reached again.
How to fix
    Make tensors that are not trained `self.register_buffer(...)`, those that are `nn.Parameter`, and keep layers in
    `nn.ModuleList`. An optimizer of your own keeps its buffers in `self.state[p]`, a schedule of your own has `state_dict()`
    and `load_state_dict()`. Numbers that steer the loss belong into `get_extra_state()`/`set_extra_state()`, or in a buffer.
    Load weights with `strict=True`, and after every initialisation.
Known limits
    What your own saving code writes is not seen: only what the state dicts could give it. Two updates on the first batches.
    State that eval passes change too, such as a hidden state, is left to `eval-mode`. Gradient scalers, the data's order and
    the random state are not part of the comparison.
Source
    PyTorch, "Saving and loading a general checkpoint for inference and/or resuming training".
"""

from nncheck.probes.round_trip import EarlierLoad, Lost, RoundTrip
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Table, Verdict, failed, passed, skipped, warned

# Equal runs differ by nothing on a CPU, and by float32's rounding on an accelerator: then the difference must be ten times that
# of two runs without a round trip. Adam's update of a weight whose gradient is nothing but rounding is the sign of it.
SAME = 1e-5
SAME_UPDATE = 1e-3
ABOVE_NOISE = 10.0
# Two runs that differ by more than this without any saving cannot be compared.
NOISY = 1e-3
# Weights that are made anew correlate with those loaded by 0 +- 1/sqrt(n), with n up to 64 numbers of every matrix; those that
# are still there by 1, and by far more than a quarter after rounding or averaging.
GONE = 0.25
EXPECTED = "the same outputs, loss, update and learning rate as without saving and loading"


@check(
    stage=Stage.RESUME,
    after=("forward-pass", "finite-values"),
    consequence_of=("optimizer-coverage", "unused-parameters", "eval-mode"),
)
def checkpoint(trip: RoundTrip) -> Verdict:
    """Judge what the round trip changed, the plainest first; before it, what was loaded when the set-up was made."""
    for load in trip.earlier:
        if load.given and not load.matched:
            return _nothing_loaded(load)
        if load.likeness < GONE:
            return _gone(load)
    if trip.refused:
        return _refused(trip)
    if trip.untaken:
        return _untaken(trip)
    if trip.untied:
        return _untied(trip)
    if not trip.compared:
        return skipped("the model keeps state from pass to pass, so that the next step is another in any case")
    if trip.noise > NOISY:
        return skipped(
            "made again without any saving, from all that model and optimizer held, the same update gives another result"
        )
    limit = ABOVE_NOISE * trip.noise
    if max(trip.outputs, trip.loss) > max(SAME, limit) or trip.update > max(SAME_UPDATE, limit):
        return _changed(trip)
    before, after = trip.rates
    if before != after:
        return _rates(trip, before, after)
    if trip.random:
        return _random(trip)
    averages = [item for item in trip.lost if item.kind == "weights"]
    if averages:
        return _averages(averages)
    if trip.copies:
        return _copies(trip)
    counters = ", ".join(f"`{item.name}`" for item in trip.lost[:3])
    beside = f"; {counters} start over, which changes nothing in it" if counters else ""
    return passed(
        f"after saving and loading, the next update differs by {trip.update:.1g} of its size and the outputs by "
        f"{trip.outputs:.1g}{beside}",
        expected=EXPECTED,
        numbers=_numbers(trip),
    )


def _numbers(trip: RoundTrip) -> dict[str, float]:
    return {"outputs": trip.outputs, "update": trip.update, "loss": trip.loss}


def _nothing_loaded(load: EarlierLoad) -> Verdict:
    return failed(
        f"`load_state_dict` was given {load.given} tensors, and none of them has a name and shape of the model's",
        expected="every tensor is taken over, or nearly every one",
        summary="the loaded weights fit nowhere: the model keeps its random ones",
        numbers={"given": float(load.given), "matched": 0.0},
        places=(load.place,),
        causes=("the names have another prefix (`module.`, `model.`), and `strict=False` lets that pass",),
        remedies=(
            Remedy(text="take the prefix off", code='{k.removeprefix("module."): v for k, v in state_dict.items()}'),
            Remedy(text="load with strict=True, and look at what load_state_dict returns otherwise"),
        ),
    )


def _gone(load: EarlierLoad) -> Verdict:
    return failed(
        f"{load.matched} tensors were loaded, but what the model holds now has a correlation of {load.likeness:.2f} with them",
        expected="the weights that were loaded",
        summary="the loaded weights are gone: they were initialised again after loading",
        numbers={"likeness": load.likeness, "matched": float(load.matched)},
        places=(load.place,),
        causes=("an initialisation (`model.apply(init_weights)`) runs after `load_state_dict`",),
        remedies=(Remedy(text="initialise first, then load"),),
    )


def _refused(trip: RoundTrip) -> Verdict:
    return failed(
        f"what `state_dict()` gives cannot be loaded into the same object: {trip.refused}",
        expected="`load_state_dict(state_dict())` works",
        summary="the saved state cannot be loaded again",
        places=(trip.refused_place,) if trip.refused_place else (),
        causes=("`state_dict` or `load_state_dict` is overridden, or layers are made in the first forward pass",),
        remedies=(Remedy(text="make the keys that state_dict() gives those that load_state_dict() takes"),),
    )


def _untaken(trip: RoundTrip) -> Verdict:
    names = ", ".join(f"`{n}`" for n in trip.untaken[:3])
    return failed(
        f"after `load_state_dict`, {len(trip.untaken)} tensors do not hold what was saved: {names}",
        expected="every tensor of the state dict is taken over",
        summary="loading leaves weights as they were",
        numbers={"untaken": float(len(trip.untaken))},
        places=tuple(Place(name=name) for name in trip.untaken),
        causes=("`load_state_dict` is overridden, or calls `strict=False` with keys that match nothing",),
        remedies=(
            Remedy(text="hand the keys on unchanged to `super().load_state_dict(state_dict)`, with strict=True"),
        ),
    )


def _untied(trip: RoundTrip) -> Verdict:
    names = " and ".join(f"`{n}`" for n in trip.untied[0][:3])
    return failed(
        f"{names} are one tensor before loading, and different tensors after it",
        expected="tied weights stay one tensor",
        summary="loading separates tied weights",
        places=tuple(Place(name=name) for name in trip.untied[0]),
        causes=("loading puts a new Parameter in place of the shared one",),
        remedies=(Remedy(text="copy into the tensor (`weight.data.copy_(...)`), or tie again after loading"),),
    )


def _changed(trip: RoundTrip) -> Verdict:
    """The network, the loss or the update is another one; what differed beside the state dicts is the likely cause."""
    what = []
    if trip.outputs > SAME:
        what.append(f"outputs in eval mode differ by {trip.outputs:.2g} of their size")
    if trip.loss > SAME:
        what.append(f"the next loss by {trip.loss:.2g}")
    if trip.update > SAME_UPDATE:
        what.append(f"the next update by {trip.update:.2g} of its size")
    lost = sorted(trip.lost, key=lambda item: item.kind == "number")
    optimizers = trip.outputs <= SAME and trip.loss <= SAME
    if lost:
        named = ", ".join(f"`{item.name}`" for item in lost[:3])
        summary = f"{named} {'is' if len(lost) == 1 else 'are'} in no state dict, so training goes on differently"
        causes: tuple[str, ...] = ("a tensor or number that training changes is a plain attribute",)
    elif optimizers:
        summary = f"{trip.optimizer} does not come back as it was: the next update is another"
        causes = (f"`{trip.optimizer}.state_dict()` leaves out what its step needs",)
    else:
        summary = "the model does not come back as it was"
        causes = ("something the forward pass uses is neither a parameter nor a buffer",)
    return failed(
        f"after saving and loading, {' and '.join(what)}",
        expected=EXPECTED,
        summary=summary,
        numbers=_numbers(trip),
        places=tuple(item.place for item in lost),
        causes=causes,
        remedies=(_remedy(lost, optimizers),),
        exhibits=_table(lost),
    )


def _remedy(lost: list[Lost], optimizers: bool) -> Remedy:
    first = lost[0] if lost else None
    if first is None:
        text = "keep an optimizer's buffers in `self.state[p]`" if optimizers else "register what the forward pass uses"
        return Remedy(text=text)
    if first.name.startswith("optimizer."):
        return Remedy(text="keep the optimizer's buffers in `self.state[p]`: its state_dict holds them then")
    if "." in first.name and "[" in first.name:
        return Remedy(text="keep the layers in nn.ModuleList or nn.ModuleDict")
    attribute = first.name.rpartition(".")[2].partition("[")[0]
    if first.kind == "number":
        return Remedy(
            text="keep the number in a buffer",
            code=f'self.register_buffer("{attribute}", torch.tensor(...))',
        )
    return Remedy(text="make it a buffer", code=f'self.register_buffer("{attribute}", ...)')


def _table(lost: list[Lost]) -> tuple[Table, ...]:
    if not lost:
        return ()
    rows = tuple((item.name, item.kind, _where(item.place)) for item in lost[:12])
    return (Table(title="Changed by training, in no state dict", columns=("name", "kind", "made at"), rows=rows),)


def _where(place: Place) -> str:
    return f"{place.file}:{place.line}" if place.file is not None and place.line is not None else ""


def _rates(trip: RoundTrip, before: float, after: float) -> Verdict:
    return failed(
        f"the learning rate after the next step is {after:.3g} instead of {before:.3g}",
        expected=EXPECTED,
        summary="the schedule starts over after a restart",
        numbers={"rate": after, "expected": before},
        causes=(f"`{trip.scheduler}` keeps its position outside its state_dict, or has none",),
        remedies=(Remedy(text="give the schedule state_dict() and load_state_dict() that hold its position"),),
    )


def _random(trip: RoundTrip) -> Verdict:
    names = ", ".join(f"`{p.name}`" for p in trip.random[:3])
    return warned(
        f"{len(trip.random)} tensors drawn at random when the model is made are in no state dict, and its outputs depend on "
        f"them: {names}",
        expected="what the output depends on is saved with the weights",
        summary=f"{names}: random numbers that are not saved; a model made anew has others",
        numbers={"tensors": float(len(trip.random))},
        places=trip.random,
        causes=("a random tensor is a plain attribute or a buffer with persistent=False",),
        remedies=(Remedy(text="make it a buffer", code='self.register_buffer("name", torch.randn(...))'),),
    )


def _averages(averages: list[Lost]) -> Verdict:
    names = ", ".join(f"`{item.name}`" for item in averages[:3])
    return warned(
        f"{len(averages)} tensors follow the model's weights from update to update, and are in no state dict: {names}",
        expected="averaged weights are saved with the others",
        summary=f"averaged weights are not saved ({names})",
        numbers={"tensors": float(len(averages))},
        places=tuple(item.place for item in averages),
        causes=("the moving average starts over from the weights of that moment after a restart",),
        remedies=(Remedy(text="keep them in a submodule or in buffers, or save them beside the model"),),
        exhibits=_table(averages),
    )


def _copies(trip: RoundTrip) -> Verdict:
    names = ", ".join(f"`{p.name}`" for p in trip.copies)
    return warned(
        f"{names} equals an embedding's weights number by number, but is another tensor that learns by itself",
        expected="tied weights are one tensor",
        summary="weights that look tied are copies: they part at the first update",
        places=trip.copies,
        causes=("the weight was cloned, or tied before one of the two was initialised or replaced",),
        remedies=(Remedy(text="share the tensor itself", code="self.head.weight = self.embedding.weight"),),
    )
