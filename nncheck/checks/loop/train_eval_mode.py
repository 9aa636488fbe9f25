"""The model trains in eval mode, or is validated in train mode.

What it does
    Follows the script's own loop for a few epochs and notes, at each call of the model, whether it is in train mode. Calls that a
    backward pass goes through train; a pass over another loader that none goes through, or a score without gradients, validates.
Why it matters
    In eval mode dropout does nothing and batch norm uses statistics that training should be updating: what was meant to regularise
    is switched off, silently, from the first validation on. In train mode a validation drops units at random, depends on how its
    batches are put together, and batch norm learns from the validation data.
How to fix
    Call `model.train()` at the beginning of every training epoch, and `model.eval()` before every validation.
Known limits
    Layers that know the mode: torch's dropout and batch norm (or others that track statistics), also inside its recurrent and
    attention layers. A frozen part is not judged. Models of which some layers are in either mode, and the same batch put through
    several times in train mode (Monte Carlo dropout), are taken as meant.
Source
    PyTorch documentation, `nn.Module.train` and `nn.Module.eval`; Karpathy (2018): the most common mistakes, "you forgot to toggle
    train/eval mode for the net".
"""

from nncheck.probes.modes_seen import ModesSeen
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, skipped, warned

# One call may be a look at the first batch.
FEWEST_TRAINED = 2


@check(stage=Stage.LOOP, after=("forward-pass",), consequence_of=("validation-data",))
def train_eval_mode(seen: ModesSeen) -> Verdict:
    """Judge the training first: a model that never comes back to train mode is the worse of the two."""
    if not seen.layers and not seen.active:
        return skipped("no layer of the trained model does something else in eval mode")
    measured = _measured(seen)
    numbers = {
        "trained_in_train_mode": float(seen.trained_train),
        "trained_in_eval_mode": float(seen.trained_eval),
        "validated_in_train_mode": float(seen.validated_train),
        "validated_in_eval_mode": float(seen.validated_eval),
    }
    layers = ", ".join(seen.named)
    if seen.stayed is not None:
        return failed(
            measured,
            expected="train mode whenever the model is trained",
            summary=f"after a validation the model is never put back into train mode: from then on {layers} are switched off",
            numbers=numbers,
            places=tuple(p for p in (seen.stayed, seen.switched) if p is not None),
            causes=("model.train() is called once before the loop, or not at all, and model.eval() in the validation",),
            remedies=(_TRAIN,),
        )
    if seen.began_in_eval and not seen.trained_train and seen.trained_eval >= FEWEST_TRAINED:
        return warned(
            measured,
            expected="train mode whenever the model is trained",
            summary=f"the model is trained in eval mode from the first step on: {layers} are switched off",
            numbers=numbers,
            places=(seen.trained_at,) if seen.trained_at else (),
            causes=(
                "model.eval() was called before the training",
                "a model that was loaded comes in eval mode (`from_pretrained` leaves it so)",
            ),
            remedies=(_TRAIN,),
        )
    if seen.validated_train:
        say = failed if seen.scored else warned
        return say(
            measured,
            expected="eval mode whenever the model is validated",
            summary=f"the model is validated in train mode: {', '.join(seen.active)} are active while it is scored",
            numbers=numbers,
            places=(seen.validated_at,) if seen.validated_at else (),
            causes=("model.eval() is not called before the validation",),
            remedies=(
                Remedy(
                    text="put the model into eval mode before it is validated, and back afterwards",
                    code="model.eval()\nwith torch.no_grad(): ...\nmodel.train()",
                ),
            ),
        )
    return passed(measured, numbers=numbers)


_TRAIN = Remedy(text="call model.train() at the beginning of every training epoch", code="model.train()")


def _measured(seen: ModesSeen) -> str:
    parts = [f"trained by {seen.trained_train} calls in train mode and {seen.trained_eval} in eval mode"]
    if seen.validated_train or seen.validated_eval:
        parts.append(f"validated by {seen.validated_train} in train mode and {seen.validated_eval} in eval mode")
    else:
        parts.append("no validation was seen")
    return "; ".join(parts)
