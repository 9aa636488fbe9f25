"""The model does not behave in eval mode as it should.

What it does
    Passes one batch through the model several times in eval mode, under the same seed and under another: the outputs must be
    equal, exactly. Meanwhile it watches every dropout, every BatchNorm and every random function: what is active there, on
    which line, and whether its module is known to the model. It looks at what `model.eval()` and `model.train()` switch, at
    dropout's rates, and at BatchNorm's momentum and statistics.
Why it matters
    `F.dropout(x)` drops in validation too: it does not know of `model.eval()`. The loss still falls, but every prediction
    is disturbed, and the validation numbers with it. A BatchNorm that goes on taking its statistics from the batch makes a
    prediction depend on its company; one whose statistics follow only the last batch makes it depend on luck.
How to fix
    Write `F.dropout(x, p, training=self.training)`, or use `nn.Dropout`; keep layers in `nn.ModuleList`, so that `eval()`
    reaches them; call `model.train()` at the start of every training step; put noise and masks under `if self.training:`.
    Write `p` as the share to drop, not to keep. Give BatchNorm PyTorch's momentum, one minus that of TensorFlow. Let a new
    sequence begin with a new hidden state. If randomness at test time is meant (Monte-Carlo dropout), say so in a comment
    beside it, or ignore this check.
Known limits
    One batch. Sampling that belongs to the model (a reparameterised latent, Gumbel noise, the noise of a diffusion step) is
    told apart by what becomes of the drawn numbers, and passes. State is held against a model only if its samples are
    shuffled. Whether validation calls `model.eval()` at all is not seen.
Source
    Karpathy, "most common neural net mistakes" (2018), number 2; numerics: healthy models differ by exactly 0, `F.dropout` left
    on by 0.41 (p = 0.1) to 1.0 (p = 0.5).
"""

import dataclasses

from nncheck.checks.wiring._eval_numbers import momentum, rates, small_batches
from nncheck.probes.evaluation import Evaluation
from nncheck.probes.normalisation import Normalisation
from nncheck.probes.training_loop import TrainingLoop
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# On a CPU equal means equal. On an accelerator the order of summation may differ from pass to pass: float32 noise of a few
# times 1e-7 per operation. The weakest dropout measured (p = 0.1) changes outputs by 0.41.
EQUAL = 1e-5
EXPECTED = "equal outputs, whatever the seed"


@check(
    stage=Stage.WIRING,
    after=("forward-pass", "finite-values"),
    consequence_of=("optimizer-coverage",),
)
def eval_mode(passes: Evaluation, norms: Normalisation, loop: TrainingLoop) -> Verdict:
    """Judge what ran in eval mode first, then the numbers that make it differ from train mode."""
    if passes.seeds != passes.seeds:
        return skipped("the outputs in eval mode are not finite")
    verdict = (
        _flags(passes)
        or _left(loop)
        or _dropout(passes)
        or _statistics(passes)
        or _noise(passes)
        or _state(passes)
        or rates(passes)
        or _dropped(norms)
        or momentum(norms)
        or _drifting(norms)
        or small_batches(norms)
    )
    if verdict is not None:
        return verdict
    return passed(_measured(passes), numbers={"seeds": passes.seeds, "again": passes.again})


def _measured(passes: Evaluation) -> str:
    if passes.seeds <= EQUAL and passes.again <= EQUAL:
        return "three passes of a batch in eval mode give the same outputs"
    lines = ", ".join(sorted({f"{use.function} ({_at(use.place)})" for use in passes.random})[:3])
    said = f"outputs in eval mode differ by {max(passes.seeds, passes.again):.2g} of their size"
    if lines:
        words = next((use.declared for use in passes.random if use.declared), "")
        return f"{said}: {lines} draws" + (f", which the code says is meant ({words!r})" if words else "")
    return f"{said}, by what the model draws or keeps on purpose"


def _at(place: Place) -> str:
    return f"line {place.line}" if place.line is not None else place.name


def _flags(passes: Evaluation) -> Verdict | None:
    if passes.stuck and not passes.meant:
        return failed(
            "after `model.eval()`, `model.training` is still True",
            expected="model.training is False after eval() and True after train()",
            summary="`model.eval()` leaves the model in train mode",
            places=(passes.methods,),
            causes=("the model's own `train(self, mode=True)` does not hand `mode` on: `eval()` calls `train(False)`",),
            remedies=(Remedy(text="hand the mode on", code="super().train(mode)"),),
        )
    if passes.unreached:
        return failed(
            "after `model.eval()` and `model.train()`, every layer is still in eval mode",
            expected="train() puts the layers back into train mode",
            summary="`model.train()` does not reach the layers: after the first validation they stay in eval mode",
            places=(passes.methods,),
            causes=("the model's own `train` sets its flag and does not go on to its layers",),
            remedies=(Remedy(text="call the module's own method", code="super().train(mode)"),),
        )
    return None


def _left(loop: TrainingLoop) -> Verdict | None:
    """A training step that begins in train mode the first time, and in eval mode ever after."""
    modes = [call.entered_training for call in loop.calls]
    if len(modes) < 2 or not modes[0] or any(modes[1:]) or not loop.mode_matters:
        return None
    return failed(
        f"the first call of train_step trains in train mode, the {len(modes) - 1} after it in eval mode",
        expected="train mode in every training step",
        summary="the training step leaves the model in eval mode",
        places=(loop.place,) if loop.place else (),
        causes=(
            "`model.eval()` is called in the step, for an accuracy or a sample, and `model.train()` is not called after it",
        ),
        remedies=(Remedy(text="begin every training step with the train mode", code="model.train()"),),
    )


_WHY = {
    "default": "`{function}` is called without `training=`: it drops in eval mode too",
    "wrong": "the `training` argument of `{function}` is true in eval mode too",
    "stray": "the dropout layer is not registered with the model (a plain list or dict): `model.eval()` does not reach it",
    "stuck": "the dropout layer is in train mode although the model is in eval mode",
    "asked": "`{function}` is called with `training=True`",
}
_DO = {
    "default": "say when to drop: `training=self.training`",
    "wrong": "give the flag, not a method or another value: `training=self.training`",
    "stray": "keep the layers in nn.ModuleList or nn.ModuleDict",
    "stuck": "let train()/eval() reach it: no `.train()` on it in forward or in an overridden `train`",
    "asked": "write `training=self.training`; if dropping at test time is meant, say so in a comment (Monte-Carlo dropout)",
}

_ATTENTION = "`scaled_dot_product_attention` drops whenever `dropout_p` is above 0: it does not know of the mode"
_DO_ATTENTION = "give it a rate in train mode only: `dropout_p=self.p if self.training else 0.0`"


def _dropout(passes: Evaluation) -> Verdict | None:
    if passes.seeds <= EQUAL or passes.meant:
        return None
    made = [use for use in passes.random if use.kind == "made" and not use.declared]
    if made:
        return failed(
            f"outputs in eval mode differ by {passes.seeds:.2g} of their size: weights are drawn anew in the pass",
            expected=EXPECTED,
            summary="a layer is made, with new random weights, in every forward pass",
            numbers={"seeds": passes.seeds},
            places=tuple(use.place for use in made),
            causes=("a layer or parameter is constructed inside forward, so it never learns",),
            remedies=(Remedy(text="make it once, in __init__, and only call it in forward"),),
        )
    uses = [u for u in passes.random if u.kind == "dropout" and u.because in _WHY and not u.declared]
    if not uses:
        return None
    first = next((u for u in uses if u.because != "asked"), uses[0])
    function = "F." + first.function if not first.function.startswith("multi_head") else first.function
    attention = first.function == "scaled_dot_product_attention" and first.because == "default"
    say = warned if first.because == "asked" else failed
    return say(
        f"outputs in eval mode differ by {passes.seeds:.2g} of their size from seed to seed; "
        f"{len(uses)} dropout{'s are' if len(uses) > 1 else ' is'} active (p = {first.rate:g})",
        expected=EXPECTED,
        summary="dropout stays on in eval mode",
        numbers={"seeds": passes.seeds, "again": passes.again, "rate": first.rate},
        places=tuple(use.place for use in uses),
        causes=(_ATTENTION if attention else _WHY[first.because].format(function=function),),
        remedies=(Remedy(text=_DO_ATTENTION if attention else _DO[first.because]),),
    )


_BATCH_WHY = {
    "untracked": "the layer keeps no running statistics (`track_running_stats=False`)",
    "stray": "the layer is not registered with the model (a plain list or dict): `model.eval()` does not reach it",
    "stuck": "the layer is in train mode although the model is in eval mode",
    "functional": "`F.batch_norm` is called with `training=True` whatever the mode",
}
_BATCH_DO = {
    "untracked": "leave `track_running_stats` at True, or use GroupNorm or InstanceNorm, which need no batch",
    "stray": "keep the layers in nn.ModuleList or nn.ModuleDict",
    "stuck": "let train()/eval() reach it: no `.train()` on it in forward or in an overridden `train`",
    "functional": "pass running statistics and `training=self.training`, or use nn.BatchNorm",
}


def _statistics(passes: Evaluation) -> Verdict | None:
    found = passes.statistics
    if not found or passes.meant:
        return None
    kinds = [s.because for s in found]
    first = next((s for s in found if s.because in ("stray", "stuck")), found[0])
    say = failed if first.because in ("stray", "stuck") else warned
    return say(
        f"{len(found)} BatchNorm layer{'s' if len(found) > 1 else ''} of the model use the batch's own statistics in eval mode",
        expected="running statistics in eval mode, so that a prediction does not depend on the rest of the batch",
        summary="in eval mode a BatchNorm still normalises by the batch at hand",
        numbers={"layers": float(len(kinds))},
        places=tuple(s.place for s in found),
        causes=(_BATCH_WHY[first.because],),
        remedies=(Remedy(text=_BATCH_DO[first.because]),),
    )


def _noise(passes: Evaluation) -> Verdict | None:
    if passes.seeds <= EQUAL or passes.meant or not passes.supervised:
        return None
    uses = [use for use in passes.random if use.kind in ("noise", "mask") and not use.declared]
    if not uses:
        return None
    if uses[0].kind == "mask":
        what = "activations are multiplied by a random mask"
    else:
        what = "samples are mixed in random order" if uses[0].function == "randperm" else "random numbers are added"
    return warned(
        f"outputs in eval mode differ by {passes.seeds:.2g} of their size from seed to seed: {what} ({uses[0].function})",
        expected=EXPECTED,
        summary="noise meant for training stays on in eval mode",
        numbers={"seeds": passes.seeds},
        places=tuple(use.place for use in uses),
        causes=("an augmentation or regularisation inside forward does not ask for the mode",),
        remedies=(Remedy(text="put it under `if self.training:`", code="if self.training:"),),
    )


def _state(passes: Evaluation) -> Verdict | None:
    """Kept between passes, and it matters: what was passed before changes the output of a batch."""
    same = 0.0 if passes.exact else EQUAL
    if passes.again <= same or not (passes.further or 0.0) > same or not passes.shuffled or passes.meant:
        return None
    # A queue or memory bank is a buffer of which a pass writes a part; a statistic or a hidden state changes as a whole.
    kept = [item for item in passes.state if item.whole or not item.registered]
    if not kept:
        return None
    names = ", ".join(f"`{item.name}`" for item in kept[:3])
    return failed(
        f"the same batch twice in eval mode gives outputs {passes.again:.2g} of their size apart, and after another batch "
        f"{passes.further:.2g}; {names} changed in between",
        expected="the same output for the same input",
        summary=f"the model keeps state from one batch to the next ({names})",
        numbers={"again": passes.again, "further": passes.further or 0.0},
        places=(dataclasses.replace(passes.methods, name=kept[0].name, detail=""),),
        causes=(
            "a hidden state, cache or statistic of one batch is used for the next, whose samples have nothing to do with it",
        ),
        remedies=(
            Remedy(text="begin every forward pass with a new state, or return it and let the caller hand it on"),
            Remedy(text="update statistics only under `if self.training:`"),
        ),
    )


def _dropped(norms: Normalisation) -> Verdict | None:
    if norms.dropped is None:
        return None
    rate, place, loss = norms.dropped
    return failed(
        f"the {loss} loss is given the result of a dropout with p = {rate:g}: that share of its inputs is exactly 0",
        expected="no dropout between the last layer and the loss",
        summary="dropout is applied to the model's output",
        numbers={"rate": rate},
        places=(place,),
        causes=("a dropout after the last layer: predictions themselves are dropped, and the others scaled up",),
        remedies=(Remedy(text="put the dropout before the last layer, or leave it out"),),
    )


def _drifting(norms: Normalisation) -> Verdict | None:
    if not norms.drifting:
        return None
    return warned(
        f"{len(norms.drifting)} BatchNorm layers with learned statistics have frozen weights, and a pass in train mode still "
        "changes their statistics",
        expected="frozen layers that do not change",
        summary="the frozen layers' BatchNorm statistics still move",
        numbers={"layers": float(len(norms.drifting))},
        places=norms.drifting,
        causes=("`requires_grad = False` freezes weights only; running statistics are updated in train mode",),
        remedies=(
            Remedy(
                text="put the frozen part in eval mode after every model.train(), best in the model's own train()",
                code="def train(self, mode=True):\n    super().train(mode)\n    self.backbone.eval()\n    return self",
            ),
        ),
    )
