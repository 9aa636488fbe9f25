"""Set-up: whether a step runs, is finite, compares what belongs together, and can be repeated."""

from __future__ import annotations

from typing import Any

import torch

from nncheck.reproduce.setup import SetUp, loss_calls, samples, seed, split, take, tensors, train


def forward_pass(setup: SetUp) -> bool:
    """One batch, forward and back."""
    batches = [take(setup.train_loader, 1)[0]]
    if hasattr(setup.train_loader, "__len__") and len(setup.train_loader) < 1000:
        batches.append(take(setup.train_loader, len(setup.train_loader))[-1])
    for batch in batches:
        print("batch:", *[f"{t.dtype} {tuple(t.shape)}" for t in tensors(batch)])
        try:
            loss = setup.loss(batch)
            print(f"loss {float(loss.detach()):.4g}, requires_grad: {loss.requires_grad}")
            setup.model.zero_grad()
            loss.backward()
        except Exception as error:  # noqa: BLE001
            print(f"{type(error).__name__}: {error}")
            return True
        reached = sum(p.grad is not None for p in setup.model.parameters())
        print(f"backward() reaches {reached} parameter tensors")
        if not reached:
            return True
    return False


def finite_values(setup: SetUp) -> bool:
    """NaN and infinity in inputs, weights, loss and gradients, over some batches with one update each."""
    found = []

    def look(what: str, tensor: Any) -> None:
        bad = int((~torch.isfinite(tensor.detach())).sum()) if tensor.is_floating_point() else 0
        if bad:
            found.append(what)
            print(f"{what}: {bad} of {tensor.numel()} values are not finite")

    for number, batch in enumerate(take(setup.train_loader, 8)):
        for i, tensor in enumerate(tensors(split(batch)[0])):
            look(f"input {i} of batch {number}", tensor)
        look(f"loss of batch {number}", setup.loss(batch))
        for name, parameter in setup.model.named_parameters():
            look(f"{name} at batch {number}", parameter)
        if found:
            return True
        train(setup, [batch])
        for name, parameter in setup.model.named_parameters():
            if parameter.grad is not None:
                look(f"gradient of {name} at batch {number}", parameter.grad)
    print("everything is finite" if not found else "")
    return bool(found)


def loss_broadcast(setup: SetUp) -> bool:
    """The shapes that meet in the loss, and whether it notices that targets change places."""
    batch = take(setup.train_loader, 1)[0]
    elementwise = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy")
    for name, predictions, target, _ in loss_calls(setup, batch):
        print(f"{name}: predictions {tuple(predictions.shape)}, targets {tuple(target.shape)}")
        if name in elementwise and predictions.shape != target.shape:
            meet = torch.broadcast_shapes(predictions.shape, target.shape)
            print(f"they broadcast to {tuple(meet)}: {meet.numel()} pairs of {target.numel()} targets")
            return bool(meet.numel() > target.numel())
    inputs, target = split(batch)
    order = torch.arange(len(target)).flip(0)
    setup.model.eval()
    kept, turned = (float(setup.loss((inputs, t)).detach()) for t in (target, samples(target, order)))
    print(f"loss {kept:.6g}; with the targets in another order {turned:.6g}")
    return abs(kept - turned) <= 1e-5 * abs(kept)


def reproducibility(setup: SetUp) -> bool:
    """The same file, seed and batch, twice."""
    first = []
    for one in (setup, setup.again()):
        seed(0)
        batch = take(one.train_loader, 1)[0]
        seed(0)
        first.append((tensors(batch), one.loss(batch).detach()))
    (items, loss), (again, other) = first
    apart = max(float((a.double() - b.double()).abs().max()) for a, b in zip(items, again, strict=True))
    print(f"the first batch of two loads of the file under one seed differs by up to {apart:.4g}")
    print(f"its loss is {float(loss):.8g} and {float(other):.8g}")
    seed(0)
    once = setup.loss(batch).detach()
    seed(0)
    twice = setup.loss(batch).detach()
    print(f"the loss of one batch, twice under one seed: {float(once):.8g} and {float(twice):.8g}")
    return apart > 0 or not torch.equal(loss, other) or not torch.equal(once, twice)
