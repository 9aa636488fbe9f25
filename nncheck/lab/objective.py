"""How a batch becomes a loss in the user's set-up, found out once and then used by every probe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.errors import CannotMeasure, OutOfTime, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.interception import EnoughLosses, held_parameters, versions, withheld
from nncheck.losses.call import LossCall, loss_call
from nncheck.observe.source import user_frames, words_of
from nncheck.observe.watch import Call, Handler, ModuleHandler, Watch
from nncheck.recipe import Setup
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one forward pass gave.

    loss: the scalar the user would call backward on (0-D).
    output: what the model returned (its last call, if it was called more than once); None if it was never called.
    calls: torch loss functions that ran, in order.
    """

    loss: Tensor
    output: Any
    calls: tuple[LossCall, ...] = field(default_factory=tuple)


class Objective:
    """Calls the user's model and loss on a batch, however they are joined.

    Forms: `training_step`; `loss_fn(model(inputs), target)`; a `train_step`, of which only the loss is taken; a model that
    returns its loss (`.loss`, `["loss"]`, a tuple that holds the scalar, or the scalar itself).
    """

    def __init__(self, setup: Setup, model: nn.Module) -> None:
        self._setup = setup
        self.model = model
        self.form = self._form()
        self._first_only = False

    def _form(self) -> str:
        if self._setup.training_step is not None:
            return "training_step"
        if self._setup.loss_fn is not None:
            return "loss_fn"
        if self._setup.train_step is not None:
            return "train_step"
        return "model"

    def __call__(
        self,
        batch: Any,
        *,
        index: int = 0,
        calls: tuple[Handler, ...] = (),
        modules: tuple[ModuleHandler, ...] = (),
    ) -> Outcome:
        """One forward pass to the loss, watched. Raises TargetError if the user's code fails or gives no scalar."""
        seen: list[LossCall] = []
        outputs: list[Any] = []

        def see_loss(call: Call) -> None:
            found = loss_call(call)
            if found is not None:
                seen.append(found)

        def see_output(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if module is self.model:
                outputs.append(output)

        try:
            with Watch(self.model, calls=(see_loss, *calls), modules=(see_output, *modules)):
                returned = self._run(batch, index)
        except (OutOfTime, KeyboardInterrupt, CannotMeasure, TargetError):
            raise
        except BaseException as error:  # SystemExit, and what a library derives from BaseException
            raise self._error(error, batch, outputs[-1] if outputs else None) from error
        loss = find_loss(returned)
        if loss is None and self.form == "train_step" and seen:
            loss = seen[-1].value.reshape(()) if seen[-1].value.numel() == 1 else None
        if loss is None:
            raise TargetError(
                f"the {self._says()} gave no scalar loss but {describe_returned(returned)}",
                detail=f"the batch: {batches.describe(batch)}",
                help=self._help(returned),
            )
        return Outcome(loss=loss, output=outputs[-1] if outputs else None, calls=tuple(seen))

    def predict(self, batch: Any, *, calls: tuple[Handler, ...] = (), modules: tuple[ModuleHandler, ...] = ()) -> Any:
        """The model's output for a batch, without the loss where the form allows it."""
        if self.form != "loss_fn":
            return self(batch, calls=calls, modules=modules).output
        try:
            with Watch(self.model, calls=calls, modules=modules):
                return self._call_model(batches.split(batch)[0])
        except (OutOfTime, KeyboardInterrupt, CannotMeasure, TargetError):
            raise
        except BaseException as error:  # SystemExit, and what a library derives from BaseException
            raise self._error(error, batch, None) from error

    def _run(self, batch: Any, index: int) -> Any:
        if self.form == "training_step":
            step = self._setup.training_step
            assert step is not None
            return call_step(step, self.model, batch, index)
        if self.form == "train_step":
            return self._loss_of_step(batch, index)
        inputs, target = batches.split(batch)
        if self.form == "loss_fn":
            loss_fn = self._setup.loss_fn
            assert loss_fn is not None
            self._understand(batch, target)
            output = self._call_model(inputs)
            if target is None:  # a bare tensor with a loss: the model rebuilds its input
                target = inputs
            return loss_fn(output, target)
        if isinstance(batch, Mapping):
            return self.model(**batch)
        if isinstance(batch, (list, tuple)):
            if len(batch) > positional(self.model):
                raise TargetError(
                    f"there is no loss: no loss_fn is given, and {type(self.model).__name__}.forward takes fewer arguments "
                    f"than the {len(batch)} parts of a batch, so it cannot return the loss itself",
                    detail=f"the batch: {batches.describe(batch)}",
                    help="bind `loss_fn` (or `criterion`), or write `def training_step(model, batch): ... return loss`",
                )
            return self.model(*batch)
        return self.model(batch)

    def _loss_of_step(self, batch: Any, index: int) -> Any:
        """Run the user's whole step with nothing done to gradients and weights; the loss with its graph."""
        setup = self._setup
        step = setup.train_step
        assert step is not None
        parameters = held_parameters(self.model, setup.optimizer)
        if not self._first_only:
            with withheld(self.model, setup.optimizer, setup.scheduler) as seen:
                returned = call_step(step, self.model, batch, index, parts=setup)
            self._first_only = seen.stale(versions(parameters))
        if self._first_only:  # a sharpness-aware step moves the weights between its backward passes
            returned = None
            with withheld(self.model, setup.optimizer, setup.scheduler, at_most=1) as seen, suppress(EnoughLosses):
                returned = call_step(step, self.model, batch, index, parts=setup)
        loss = find_loss(returned)
        if loss is None and isinstance(returned, float):
            loss = torch.tensor(returned)
        return seen.loss(loss, versions(parameters))

    def _understand(self, batch: Any, target: Any) -> None:
        """Raise TargetError for a batch that does not say which part of it is the target."""
        if isinstance(batch, Tensor) or (isinstance(batch, (list, tuple)) and len(batch) <= 2):
            return
        if isinstance(batch, (list, tuple)) and len(batch) - 1 <= positional(self.model):
            return
        if isinstance(batch, Mapping) and target is not None:
            return
        what = f"of {len(batch)} parts" if isinstance(batch, (list, tuple)) else f"of type {type(batch).__name__}"
        raise TargetError(
            f"a batch {what} does not say what is input and what is target",
            detail=f"the batch: {batches.describe(batch)}",
            help="write `def training_step(model, batch): ... return loss`; without one a batch is (inputs, target), a tensor, "
            "or a dict given as model(**batch)",
        )

    def _error(self, error: BaseException, batch: Any, output: Any) -> TargetError:
        return forward_error(error, batch, output, stepwise=self.form.endswith("_step"))

    def _call_model(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping):
            return self.model(**inputs) if takes_names(self.model, inputs) else self.model(inputs)
        if isinstance(inputs, (list, tuple)) and positional(self.model) > 1:
            return self.model(*inputs)
        return self.model(inputs)

    def _says(self) -> str:
        return {"training_step": "training_step", "train_step": "train_step", "loss_fn": "loss", "model": "model"}[
            self.form
        ]

    def _help(self, returned: Any) -> str:
        if self.form == "train_step":
            return "let train_step return the loss: a tensor with one element, or its value"
        if isinstance(returned, (int, float)):
            return "return the loss as a tensor: `.item()` or `float()` takes its gradient away"
        if self.form == "model":
            return (
                'give a loss_fn(output, target), let the model return its loss (`.loss`, ["loss"] or in a tuple), '
                "or write `def training_step(model, batch): ... return loss`"
            )
        if self.form == "loss_fn":
            return "the loss must end as one number: reduce it with .mean(), or write a training_step that does"
        return 'training_step must return the loss: a tensor with one element, or a dict with "loss"'


_PARTS = {
    "optimizer": ("optimizer", "opt", "optim"),
    "scheduler": ("scheduler", "lr_scheduler", "sched"),
    "loss_fn": ("loss_fn", "criterion", "loss_func", "loss_function"),
}


def call_step(step: Any, model: nn.Module, batch: Any, index: int, *, parts: Setup | None = None) -> Any:
    """Call a user's step with the arguments it names: (model, batch), (model, batch, batch_idx), (batch), (batch, batch_idx).

    `parts`: what a step may also name: the optimizer, the scheduler, the loss, a device, a gradient scaler.
    """
    parameters = [
        p for p in inspect.signature(step).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    device = next((t.device for t in model.parameters()), torch.device("cpu"))
    named: dict[str, Any] = {}
    if parts is not None:
        named = {name: getattr(parts, part) for part, names in _PARTS.items() for name in names}
        named = {name: value for name, value in named.items() if value is not None}
        named |= {"device": device, "epoch": 0}
        if any(p.name == "scaler" and p.default is p.empty for p in parameters):
            named["scaler"] = torch.amp.GradScaler(device.type, enabled=False)
    values: list[Any] = []
    keywords: dict[str, Any] = {}
    asked = [p for p in parameters if p.default is p.empty]
    for position, parameter in enumerate(asked):
        name = parameter.name
        if name in ("model", "net", "network", "module"):
            value: Any = model
        elif name in named:
            value = named[name]
        elif name in ("batch_idx", "batch_index", "idx", "step", "i"):
            value = index
        elif name in ("batch", "data", "inputs", "sample", "examples") or len(asked) == 1:
            value = batch
        else:  # unknown names: by position, model first
            value = (model, batch, index)[position] if position < 3 else None
        if parameter.kind is parameter.KEYWORD_ONLY:
            keywords[name] = value
        else:
            values.append(value)
    return step(*values, **keywords)


def find_loss(returned: Any) -> Tensor | None:
    """The scalar loss in what a model or step returned: itself, `.loss`, `["loss"]`, or the only scalar of a tuple."""
    if isinstance(returned, Tensor):
        return returned.reshape(()) if returned.numel() == 1 and returned.dtype.is_floating_point else None
    if isinstance(returned, Mapping):
        return find_loss(returned.get("loss"))
    if isinstance(getattr(returned, "loss", None), Tensor):
        return find_loss(returned.loss)
    if isinstance(returned, (list, tuple)):
        scalars = [t for t in returned if isinstance(t, Tensor) and t.ndim == 0 and t.dtype.is_floating_point]
        graph = [t for t in scalars if t.requires_grad]
        chosen = graph if len(graph) == 1 else scalars
        return chosen[0] if len(chosen) == 1 else None
    return None


def takes_names(model: nn.Module, names: Mapping[str, Any]) -> bool:
    """Whether a model's forward takes these keyword arguments."""
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return True
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return True
    return all(name in parameters for name in names)


def positional(model: nn.Module) -> int:
    """How many positional arguments a model's forward takes; many if it takes any number."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return 1
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 1_000
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def describe_returned(value: Any) -> str:
    """A wrong return value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor {batches.describe_tensor(value)}"
    tensors = batches.describe(value)
    return f"a {type(value).__name__} ({tensors})" if not isinstance(value, (int, float, type(None))) else repr(value)


def forward_error(error: BaseException, batch: Any, output: Any = None, *, stepwise: bool = False) -> TargetError:
    """A failure of the user's own code during a forward pass, with the user's frames and the shapes it happened with."""
    places: tuple[Place, ...] = user_frames(error)
    if isinstance(error, SystemExit):
        message = f"the model or loss called exit({error.code!r}) on the first batch it was given"
    else:
        text = words_of(error)
        message = f"{type(error).__name__} in the forward pass: {text}"
    detail = f"the batch: {batches.describe(batch)}"
    if output is not None:
        detail += f"; the model's output: {batches.describe(output)}"
    help = ""
    labels = label_range(batch, output)
    if labels is not None and isinstance(error, (IndexError, RuntimeError)):
        low, high, classes = labels
        if low < 0 or high >= classes:
            message += f" (labels range from {low} to {high}, but the model gives {classes} outputs)"
            help = f"labels must lie between 0 and {classes - 1}: shift them"
            if high >= classes:
                help += f", or give the last layer {high + 1} outputs"
    target = batches.split(batch)[1]
    if isinstance(target, Tensor) and target.is_floating_point() and "Long" in message:
        help = "class labels are integers: give the loss labels.long()"
    arrays = any(type(item).__module__ == "numpy" for item in (batch if isinstance(batch, (list, tuple)) else [batch]))
    if not help and arrays:
        help = "the batch holds NumPy arrays: turn them into tensors in the data set or the loader"
    elif not help and not stepwise and isinstance(error, (TypeError, AttributeError, KeyError)):
        help = "if a batch must be taken apart in another way, write `def training_step(model, batch): ... return loss`"
    return TargetError(message, places=places, detail=detail, help=help)


def label_range(batch: Any, output: Any) -> tuple[int, int, int] | None:
    """Lowest and highest label (-100 left out) and the number of classes of the output; None if these are no class labels."""
    target = batches.split(batch)[1]
    if not isinstance(target, Tensor) or not isinstance(output, Tensor) or output.ndim < 2:
        return None
    if target.is_floating_point() or target.is_complex() or target.dtype is torch.bool or not target.numel():
        return None
    counted = target[target != -100]  # torch's default ignore_index
    if not counted.numel():
        return None
    return int(counted.min()), int(counted.max()), output.size(1)


def detach_all(value: Any) -> Any:
    """A model output without its graph."""
    return batches.map_tensors(torch.Tensor.detach, value)
