"""The training step's events, and its loss alone, on steps whose doings are known."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.lab.sandbox import Sandbox
from nncheck.probes.training_loop import CALLS, TrainingLoop, training_loop
from nncheck.target.assemble import assemble
from tests.cases.gradient_accumulation import _adding_up
from tests.cases.zero_grad import _by_closure, _never_cleared, _sharpness_aware, _usual
from tests.loops import loop


def _sandbox(step: Any, **parts: Any) -> Sandbox:
    return Sandbox(assemble(dataclasses.replace(loop(step), **parts)), device=torch.device("cpu"))


def _events(found: TrainingLoop, kind: str) -> list[Any]:
    return [event for call in found.calls for event in call.events if event.kind == kind]


def test_without_a_step_nothing_is_run() -> None:
    sandbox = _sandbox(_usual, train_step=None)
    assert not training_loop(sandbox).given
    assert sandbox.meter.train_steps == 0


def test_a_usual_step() -> None:
    sandbox = _sandbox(_usual)
    found = training_loop(sandbox)
    assert len(found.calls) == CALLS
    assert found.moved
    assert [event.kind for event in found.calls[0].events] == ["backward", "step"]
    steps = _events(found, "step")
    assert all(step.value == step.summed > 0 and step.last_apart == 0 and not step.stale for step in steps)
    assert sandbox.meter.train_steps == pytest.approx(CALLS / 4)


def test_gradients_that_are_never_cleared_pile_up() -> None:
    steps = _events(training_loop(_sandbox(_never_cleared)), "step")
    assert not steps[0].stale
    assert all(len(step.stale) == step.held == 4 for step in steps[1:])
    assert steps[3].value > steps[3].summed


def test_accumulated_backward_passes_are_counted() -> None:
    steps = _events(training_loop(_sandbox(_adding_up)), "step")
    assert [step.backwards for step in steps] == [4, 4, 4]
    assert all(step.value == pytest.approx(step.summed) and step.last_apart > 0.1 for step in steps)


def _scaled_and_clipped(model: nn.Module, batch: Any, optimizer: Any, scaler: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    scaler.update()
    return loss.detach()


def test_the_order_of_scaling_and_clipping() -> None:
    found = training_loop(_sandbox(_scaled_and_clipped))
    kinds = [event.kind for event in found.calls[0].events]
    assert kinds == ["scale", "backward", "unscale", "clip", "scaled-step", "step", "update"]
    clip = _events(found, "clip")[0]
    assert clip.limit == 0.5
    assert clip.value > 0


def _clip_by_place(kind: str, several: Any) -> None:
    nn.utils.clip_grad_norm_(several, 0.5) if kind == "norm" else nn.utils.clip_grad_value_(several, 0.5)


def _clip_by_name(kind: str, several: Any) -> None:
    if kind == "norm":
        nn.utils.clip_grad_norm_(parameters=several, max_norm=0.5)
    else:
        nn.utils.clip_grad_value_(several, clip_value=0.5)


@pytest.mark.parametrize("clip", [_clip_by_place, _clip_by_name])
@pytest.mark.parametrize("kind", ["norm", "value"])
def test_clipping_is_seen_however_its_limit_is_given(clip: Any, kind: str) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        clip(kind, (p for p in model.parameters()))
        optimizer.step()
        return loss

    found = training_loop(_sandbox(step))
    clips = _events(found, "clip")
    assert len(clips) == CALLS
    assert clips[0].limit == (0.5 if kind == "norm" else float("inf"))
    assert clips[0].value > 0
    assert found.moved


def test_what_a_step_raises_is_told() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        raise ValueError("boom")

    found = training_loop(_sandbox(step))
    assert "ValueError in call 1: boom" in found.failure
    assert not found.calls


@pytest.mark.parametrize("step", [_usual, _scaled_and_clipped, _adding_up])
def test_the_loss_alone_has_the_gradient_of_the_plain_loss(step: Any) -> None:
    """Without a loss function, every other check takes the loss from the step, of which nothing is done."""

    def whole(model: nn.Module, batch: Any, optimizer: Any, scaler: Any) -> Any:
        given = {"loss_fn": F.cross_entropy, "batch_idx": 0, "scaler": scaler}
        names = [name for name in step.__code__.co_varnames[: step.__code__.co_argcount] if name in given]
        return step(model, batch, optimizer=optimizer, **{name: given[name] for name in names})

    sandbox = _sandbox(whole, loss_fn=None)
    assert sandbox.objective.form == "train_step"
    batch = sandbox.feed.first
    with sandbox.trial() as model:
        weights = [p.detach().clone() for p in model.parameters()]
        loss = sandbox.forward(batch).loss
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
        found = torch.autograd.grad(loss, list(model.parameters()))
        plain = torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), list(model.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


@pytest.mark.parametrize("step", [_sharpness_aware, _by_closure])
def test_steps_that_go_back_several_times_or_by_a_closure_give_a_loss(step: Any) -> None:
    def whole(model: nn.Module, batch: Any, optimizer: Any) -> Any:
        return step(model, batch, optimizer, F.cross_entropy)

    sandbox = _sandbox(whole, loss_fn=None)
    with sandbox.trial() as model:
        loss = sandbox.forward(sandbox.feed.first).loss
        gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert all(bool(g.any()) for g in gradients)
    assert torch.Tensor.backward.__module__ == "torch._tensor"
    assert "train" not in vars(sandbox.model)


@pytest.mark.parametrize("cleared", [True, False])
def test_another_optimizers_gradients_are_followed_too(cleared: bool) -> None:
    more = nn.Linear(4, 1)
    other = torch.optim.SGD(more.parameters(), lr=0.1)

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        if cleared:
            other.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        more(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        other.step()
        return loss

    steps = _events(training_loop(_sandbox(step)), "other-step")
    assert [event.other for event in steps] == [1] * CALLS
    assert not steps[0].stale
    assert all(len(event.stale) == (0 if cleared else event.held) for event in steps[1:])
    assert all(event.held == 2 for event in steps)


def test_a_schedule_that_only_the_step_knows_is_seen_once_a_call() -> None:
    held: dict[str, Any] = {}

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        if not held:
            parts = [
                torch.optim.lr_scheduler.ConstantLR(optimizer),
                torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
            ]
            held["schedule"] = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [2])
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        held["schedule"].step()
        return loss

    found = training_loop(_sandbox(step))
    kinds = [event.kind for call in found.calls[1:] for event in call.events]
    assert not found.failure
    assert kinds == ["backward", "step", "schedule"] * (CALLS - 1)
