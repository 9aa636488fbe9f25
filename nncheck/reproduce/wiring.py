"""Wiring: which samples, positions and parameters depend on which, and what the modes change."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nncheck.reproduce.setup import (
    SetUp,
    leaves,
    loss_calls,
    mapped,
    output,
    samples,
    seed,
    split,
    take,
    tensors,
    train,
    with_inputs,
)


def batch_mixing(setup: SetUp) -> bool:
    """The gradient of one sample's output by the inputs of the others, in eval mode; and the batch in another order."""
    batch = samples(take(setup.train_loader, 1)[0], slice(0, 8))
    setup.model.eval()
    entered: list[Any] = []

    def follow(module: Any, inputs: Any, out: Any) -> None:
        entered.append(out.requires_grad_() if out.is_leaf else out)
        out.retain_grad()

    given = tensors(split(batch)[0])[0]
    handles = []
    if given.is_floating_point():
        entered.append(given.clone().requires_grad_())
        batch = with_inputs(batch, lambda _: entered[0])
    else:  # numbers of tokens have no gradient: what their embedding gives has
        handles = [m.register_forward_hook(follow) for m in setup.model.modules() if isinstance(m, nn.Embedding)]
    size = len(given)
    rows = output(setup, batch)
    for handle in handles:
        handle.remove()
    leaks = []
    for i in range(size):
        (gradient,) = torch.autograd.grad(rows[i].sum(), entered[0], retain_graph=True)
        leaks += [(i, j, float(gradient[j].abs().max())) for j in range(size) if j != i and gradient[j].any()]
    for i, j, value in leaks[:3]:
        print(f"d output[{i}] / d input[{j}] is {value:.3g}, and should be exactly 0")
    print(f"{len(leaks)} of {size * (size - 1)} pairs of samples are connected")
    turned = output(setup, samples(batch, torch.arange(size).flip(0))).detach().flip(0)
    apart = float((turned - rows).abs().max() / rows.abs().max())
    print(f"in another order the outputs differ by {apart:.2g} of the largest")
    return bool(leaks) or apart > 1e-3


def batch_consistency(setup: SetUp, *, last: float = 0.0) -> bool:
    """Each sample's output in a pair and in its batch, in eval mode; the epoch's last batch in train mode."""
    batch = take(setup.train_loader, 1)[0]
    if last:
        try:
            setup.model.train()
            setup.loss(samples(batch, slice(0, int(last))))
        except (ValueError, RuntimeError) as error:
            print(f"with {last:g} samples: {type(error).__name__}: {error}")
            return True
    setup.model.eval()
    with torch.no_grad():
        together = output(setup, batch)
        each = len(together) / len(tensors(batch)[0])
        print(f"{each:g} rows of output a sample")
        if each != 1:
            return True
        alone = torch.cat([output(setup, samples(batch, slice(i, i + 2))) for i in range(0, min(8, len(together)), 2)])
    apart = float((alone - together[: len(alone)]).abs().max() / together.abs().max())
    print(
        f"in pairs, the outputs differ from those in a batch of {len(together)} by {apart:.2g} of the largest (rounding: 1e-5)"
    )
    return apart > 1e-3


def time_leakage(setup: SetUp) -> bool:
    """Whether changing the inputs from a position on moves predictions before it, in eval mode."""
    batch = take(setup.train_loader, 1)[0]
    tokens, target = tensors(split(batch)[0])[0], split(batch)[1]
    if isinstance(target, torch.Tensor) and target.shape == tokens.shape:
        for k in range(4):
            agree = (target[:, : target.shape[1] - k] == tokens[:, k:]).double().mean()
            print(f"target[t] == input[t + {k}]: {float(agree):.0%}")
            if agree > 0.99 and k != 1:
                print("a next-token target is the input one position on")
                return True
    length, worst = tokens.shape[1], 0.0
    setup.model.eval()
    for position in (length // 4, length // 2, length - 1):

        def change(t: Any, position: int = position) -> Any:
            return torch.cat([t[:, :position], t[:, position:].roll(1, 0)], 1)

        with torch.no_grad():
            before, after = output(setup, batch), output(setup, with_inputs(batch, change))
        if before.shape[:2] != tokens.shape[:2]:  # flattened over batch and time
            before, after = (t.reshape(*tokens.shape[:2], -1) for t in (before, after))
        moved = float((before - after)[:, :position].abs().max() / before.abs().max())
        print(f"other inputs from position {position} on move the predictions before it by {moved:.2g} (should be 0)")
        worst = max(worst, moved)
    return worst > 1e-4


def gradient_check(setup: SetUp) -> bool:
    """backward() against finite differences in float64, along a random direction."""
    setup.model.double().eval()
    batch = samples(take(setup.train_loader, 1)[0], slice(0, 6))
    batch = mapped(lambda t: t.double() if t.is_floating_point() else t, batch)
    weights = [p for p in setup.model.parameters() if p.requires_grad]
    seed(0)
    setup.model.zero_grad()
    setup.loss(batch).backward()
    worst = 0.0
    for _ in range(3):
        way = [torch.randn_like(p) * p.detach().norm() / p.numel() ** 0.5 for p in weights]
        told = sum(float((p.grad * d).sum()) for p, d in zip(weights, way, strict=True) if p.grad is not None)
        ends = []
        for sign in (1, -2, 1):
            with torch.no_grad():
                for p, d in zip(weights, way, strict=True):
                    p += sign * 1e-6 * d
                seed(0)
                ends.append(float(setup.loss(batch).detach()))
        real = (ends[0] - ends[1]) / 2e-6
        error = abs(told - real) / max(abs(told), abs(real), 1e-12)
        print(
            f"backward() says {told:.6g}, finite differences {real:.6g}: relative error {error:.2g} (should be below 1e-5)"
        )
        worst = max(worst, error)
    return worst > 1e-3


def unused_parameters(setup: SetUp, *, names: tuple[str, ...] = ()) -> bool:
    """Trainable parameters without a gradient in three updates; one layer that stands several times in a list."""
    reached = set()
    for batch in take(setup.train_loader, 3):
        train(setup, [batch])
        setup.loss(batch).backward()
        reached |= {n for n, p in setup.model.named_parameters() if p.grad is not None}
    left = [n for n, p in setup.model.named_parameters() if p.requires_grad and n not in reached]
    told = [n for n in left if not names or any(n.startswith(name) for name in names)]
    print(f"{len(left)} trainable parameters never get a gradient: {', '.join(left[:8]) or 'none'}")
    every = [id(m) for _, m in setup.model.named_modules(remove_duplicate=False)]
    again = len(every) - len(set(every))
    if again:
        print(f"{again} entries of the model are layers that it has already")
    return bool(told) or (again > 0 and not left)


def optimizer_coverage(setup: SetUp) -> bool:
    """What the loss depends on, from its graph, against what the optimizer holds."""
    needed = {id(p): p for p in leaves(setup.loss(take(setup.train_loader, 1)[0]))}
    names = {id(p): n for n, p in setup.model.named_parameters()}
    held = [p for group in setup.optimizer.param_groups for p in group["params"]]
    moved = {id(p) for group in setup.optimizer.param_groups for p in group["params"] if group.get("lr", 1) != 0}
    never = [f"{names.get(i, 'not registered')} {tuple(p.shape)}" for i, p in needed.items() if i not in moved]
    stale = sum(id(p) not in names and id(p) not in needed for p in held)
    print(f"the loss depends on {len(needed)} tensors; the optimizer holds {len(held)}")
    print(f"never updated: {', '.join(never) or 'none'}; held without being in the model: {stale}")
    return bool(never or stale or len(held) != len({id(p) for p in held}))


def input_dependency(setup: SetUp) -> bool:
    """Outputs in eval mode before and after inputs are exchanged between samples; then one column at a time is changed."""
    batch = take(setup.train_loader, 1)[0]
    setup.model.eval()
    with torch.no_grad():
        before = output(setup, batch)
        ignored = torch.equal(before, output(setup, with_inputs(batch, lambda t: t.roll(1, 0))))
        print(f"with the inputs of other samples the outputs are {'the same, to the bit' if ignored else 'others'}")
        given = tensors(split(batch)[0])[0]
        unused = []
        for j in range(given.shape[-1] if given.is_floating_point() and given.ndim > 1 else 0):

            def change(t: Any, j: int = j) -> Any:
                return torch.cat([t[..., :j], t[..., j : j + 1] + torch.randn_like(t[..., :1]), t[..., j + 1 :]], -1)

            if torch.equal(before, output(setup, with_inputs(batch, change))):
                unused.append(j)
        print(f"columns that no output depends on: {unused or 'none'}")
    return ignored or bool(unused)


def eval_mode(setup: SetUp) -> bool:
    """One batch twice in eval mode under two seeds, and alone against in its batch; what eval() and train() reach."""
    batch = take(setup.train_loader, 1)[0]
    setup.model.eval()
    training = [name for name, m in setup.model.named_modules() if m.training]
    with torch.no_grad():
        seed(0)
        one = output(setup, batch)
        seed(1)
        other = output(setup, batch)
        alone = output(setup, samples(batch, slice(0, 2)))
    noise = float((one - other).abs().max() / one.abs().max())
    company = float((one[: len(alone)] - alone).abs().max() / one.abs().max())
    setup.model.train()
    evaluating = [name for name, m in setup.model.named_modules() if not m.training]
    print(
        f"in eval mode outputs differ by {noise:.2g} of the largest from seed to seed, by {company:.2g} in another batch"
    )
    print(f"in train mode after eval(): {training or 'none'}; in eval mode after train(): {evaluating or 'none'}")
    return noise > 1e-5 or company > 1e-2 or bool(training or evaluating)


def double_softmax(setup: SetUp) -> bool:
    """Whether what a loss of raw scores is given are probabilities already."""
    shows = False
    for batch in take(setup.train_loader, 2):
        for name, given, _, _ in loss_calls(setup, batch):
            given = given.detach()
            low, high = float(given.min()), float(given.max())
            print(f"{name} is given values from {low:.4g} to {high:.4g}", end="")
            inside = low >= 0 and high <= 1
            if name in ("cross_entropy", "nll_loss") and given.ndim > 1:
                off = float((given.sum(1) - 1).abs().max())
                print(f"; each row sums to 1 within {off:.2g}", end="")
                inside = inside and off < 1e-4
            print()
            shows |= inside and name in ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits")
    return shows


def output_range(setup: SetUp) -> bool:
    """The outputs while the last layer's weights are a thousand times as large: where they end shows the bounds."""
    calls = loss_calls(setup, batch := take(setup.train_loader, 1)[0])
    layers = [m for m in setup.model.modules() if getattr(m, "weight", None) is not None and m.weight.ndim > 1]
    reach: list[list[Any]] = [[] for _ in calls]
    for factor in (1000, -1000):
        with torch.no_grad():
            layers[-1].weight *= factor
            for seen, (_, given, _, _) in zip(reach, loss_calls(setup, batch), strict=True):
                seen.append(given)
            layers[-1].weight /= factor
    for (name, _, target, _), given in zip(calls, reach, strict=True):
        low, high = (float(f(torch.stack(given))) for f in (torch.min, torch.max))
        print(f"{name} is given values from {low:.4g} to {high:.4g} at most", end="")
        if not target.is_floating_point():
            print("; no score is negative" if low >= 0 else "")
            return low >= 0
        outside = float(((target < low) | (target > high)).double().mean())
        print(f"; {outside:.1%} of the targets ({float(target.min()):.4g} to {float(target.max()):.4g}) are beyond it")
        if outside > 0.05:
            return True
    return False
