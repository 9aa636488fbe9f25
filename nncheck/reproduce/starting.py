"""Before training: the first loss, the scale of activations and gradients, units that are silent, stuck or alike."""

from __future__ import annotations

import math
from typing import Any

import torch

from nncheck.reproduce.setup import Calls, SetUp, first_input, loss_calls, output, take, tensors, train


def first_losses(setup: SetUp) -> tuple[str, float, Any, Any]:
    """The first of torch's losses that is called, its mean over up to 8 batches, and all its inputs and targets."""
    calls = [loss_calls(setup, batch)[:1] for batch in take(setup.train_loader, 8)]
    found = [call[0] for call in calls if call]
    if not found:
        losses = [float(setup.loss(batch).detach()) for batch in take(setup.train_loader, 8)]
        return "loss", sum(losses) / len(losses), None, None
    flat = [(p.detach(), t.detach()) for _, p, t, _ in found]
    value = sum(float(call[3].detach().mean()) for call in found) / len(found)
    return found[0][0], value, torch.cat([p for p, _ in flat]), torch.cat([t for _, t in flat])


def by_chance(name: str, predictions: Any, target: Any) -> float:
    """The loss where the outputs say nothing."""
    if name in ("cross_entropy", "nll_loss"):
        return math.log(predictions.shape[1])
    if name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        return math.log(2)
    return float(target.double().square().mean()) if target is not None and name == "mse_loss" else math.nan


def loss_at_init(setup: SetUp, *, loss: float = math.nan, expected: float = math.nan) -> bool:
    """The loss before training, against that of a network that knows nothing."""
    name, value, predictions, target = first_losses(setup)
    known = by_chance(name, predictions, target)
    expected = expected if math.isnan(known) else known
    print(f"{name} starts at {value:.4g}; by chance it is {expected:.4g}")
    if name == "nll_loss":
        sums = predictions.double().logsumexp(1)
        print(f"nll_loss wants log-probabilities, log(sum(exp)) = 0; here it is {float(sums.min()):.4g} "
              f"to {float(sums.max()):.4g}")  # fmt: skip
        return float(sums.abs().max()) > 0.05
    if math.isnan(expected):
        return abs(value - loss) < 0.5 * abs(loss)
    return abs(value - expected) > max(0.5 * abs(loss - expected), 0.1) if loss == loss else value > 1.5 * expected


def output_bias_init(setup: SetUp, *, constant: float = math.nan) -> bool:
    """The loss before training, against that of the best constant answer."""
    name, value, predictions, target = first_losses(setup)
    if target is not None and name == "binary_cross_entropy_with_logits":
        rate = float(target.double().mean())
        constant = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
        print(f"{rate:.2%} of the labels are positive; sigmoid(output) is {float(predictions.sigmoid().mean()):.2%}")
    elif target is not None and name == "mse_loss":
        constant = float(target.double().var())
        print(f"the targets are {float(target.mean()):.4g} on average, the outputs {float(predictions.mean()):.4g}")
    elif target is not None and name == "cross_entropy" and not target.is_floating_point():
        share = target.flatten().bincount().double() / target.numel()
        constant = float(-(share[share > 0] * share[share > 0].log()).sum())
    print(f"{name} starts at {value:.4g}; the best constant answer gives {constant:.4g}")
    return value > (4 * constant if name == "mse_loss" else constant + 0.1)


def activation_scale(setup: SetUp) -> bool:
    """How much each weight layer's output varies over the samples."""
    batch = take(setup.train_loader, 1)[0]
    spreads = [("input", first_input(setup, batch).double())]
    handles = []
    for name, module in setup.model.named_modules():
        if getattr(module, "weight", None) is not None and module.weight.ndim > 1:

            def note(module: Any, inputs: Any, out: Any, name: str = name) -> None:
                spreads.append((name, out.detach().double()))

            handles.append(module.register_forward_hook(note))
    setup.loss(batch)
    for handle in handles:
        handle.remove()
    found = [(name, float(t.std(0).mean()), float(t.square().mean().sqrt())) for name, t in spreads]
    for name, spread, size in found:
        print(f"{name}: varies by {spread:.4g} over the samples, its size is {size:.4g}")
    ratio = found[-1][1] / max(found[0][1], 1e-300)
    print(f"from input to output the spread changes by a factor of {ratio:.4g} (should be between 0.001 and 1000)")
    return not 1e-3 <= ratio <= 1e3 or found[-1][1] < 1e-4 * found[-1][2]


def symmetry(setup: SetUp) -> bool:
    """Weight matrices whose rows are all equal after three updates; layers that start equal."""
    start = {n: p.detach().clone() for n, p in setup.model.named_parameters() if p.ndim > 1 and len(p) > 1}
    pairs = [(a, b) for i, a in enumerate(start) for b in list(start)[i + 1 :]
             if torch.equal(start[a], start[b]) and start[a].std() > 0 and "norm" not in a]  # fmt: skip
    for a, b in pairs[:5]:
        print(f"{a} and {b} start with the same random numbers")
    alike = [name for name, weight in start.items() if weight.any() and bool((weight == weight[:1]).all())]
    for name in alike:
        print(f"{name}: its {len(start[name])} units start equal")
    train(setup, take(setup.train_loader, 3))
    for name, weight in setup.model.named_parameters():
        if name in start:
            rows = weight.detach().flatten(1)
            apart = float((rows - rows[:1]).abs().max() / rows.abs().max().clamp_min(1e-30))
            if apart < 1e-5:
                alike.append(name)
                print(
                    f"{name}: its {len(rows)} units are the same after 3 updates (apart by {apart:.2g} of their size)"
                )
    if not alike and not pairs:
        print("no two units of a layer, no two layers are the same")
    return bool(alike or pairs)


RELUS = ("relu", "relu_", "relu6", "hardtanh", "clamp", "clamp_min", "threshold")


def dead_relu(setup: SetUp, *, dead: float = 1.0, newly_dead: float = 0.0) -> bool:
    """Units of each ReLU that are zero for every sample of 8 batches; after 60 updates if the finding is of then."""
    if newly_dead:
        train(setup, take(setup.train_loader, 60))
    alive: dict[int, Any] = {}
    setup.model.eval()
    for batch in take(setup.train_loader, 8):
        with Calls(*RELUS) as calls, torch.no_grad():
            setup.loss(batch)
        for number, (_, _, _, out) in enumerate(calls.seen):
            if out.ndim < 2:
                continue
            units = (out > 0).transpose(1, -1).flatten(0, -2) if out.ndim > 3 else (out > 0).flatten(0, -2)
            alive[number] = alive.get(number, False) | units.any(0)
    shares = [1 - float(units.double().mean()) for units in alive.values()]
    for number, (units, share) in enumerate(zip(alive.values(), shares, strict=True), start=1):
        print(f"ReLU {number}: {round(share * len(units))} of {len(units)} units are zero for every sample")
    return max(shares, default=0.0) >= min(0.9, 0.9 * max(dead, newly_dead))


def saturation(setup: SetUp, *, entropy: float = math.nan, slope: float = math.nan) -> bool:
    """The entropy of attention, of the most it could have; the mean slope of tanh and sigmoid, of its largest value."""
    with Calls("softmax", "scaled_dot_product_attention", "tanh", "tanh_", "sigmoid", "sigmoid_") as calls:
        output(setup, take(setup.train_loader, 1)[0])
    entropies, slopes = [], []
    for name, args, _, out in calls.seen:
        out = out.detach().double()
        if name == "scaled_dot_product_attention":
            query, key = args[0].detach().double(), args[1].detach().double()
            out = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        if name in ("softmax", "scaled_dot_product_attention"):
            keys = (out > 0).sum(-1)
            most = keys.double().log()[keys > 1]
            entropies.append(float((-(out * out.clamp_min(1e-300).log()).sum(-1)[keys > 1] / most).mean()))
            print(f"{name}: entropy {entropies[-1]:.2f} of the largest possible, "
                  f"largest weight {float(out.amax(-1).mean()):.2f}")  # fmt: skip
        else:
            slopes.append(float((1 - out**2).mean() if name.startswith("tanh") else (4 * out * (1 - out)).mean()))
            print(f"{name}: {slopes[-1]:.2%} of its gradient is left")
    if not math.isnan(entropy):
        return bool(entropies) and min(entropies) < (entropy + 0.7) / 2
    return bool(slopes) and min(slopes) < (2 * slope if slope == slope else 0.1)


def without_gradient(setup: SetUp, batch: Any) -> float:
    """The share of the model's outputs at which the gradient of the loss is exactly 0."""
    seen: list[Any] = []
    handle = setup.model.register_forward_hook(lambda module, inputs, out: seen.extend(tensors(out)))
    loss = setup.loss(batch)
    handle.remove()
    outputs = [out for out in seen if out.requires_grad and out.numel() > 1]
    gradients = torch.autograd.grad(loss, outputs, allow_unused=True)
    shares = [float((g == 0).double().mean()) for g in gradients if g is not None]
    print(f"the gradient is exactly 0 at {max(shares, default=0.0):.0%} of the model's outputs")
    return max(shares, default=0.0)


def gradient_flow(setup: SetUp, *, names: tuple[str, ...] = (), clamped: float = 0.0, squeezed: float = 0.0) -> bool:
    """Each parameter's gradient over 8 updates: never there, exactly zero, or |gradient| x |weight| / |loss| far apart."""
    if clamped or squeezed:
        return without_gradient(setup, take(setup.train_loader, 1)[0]) > (clamped + squeezed) / 2
    largest: dict[str, float] = {}
    shares: dict[str, float] = {}
    for batch in take(setup.train_loader, 8):
        setup.model.zero_grad()
        try:
            loss = setup.loss(batch)
            loss.backward()
        except RuntimeError as error:
            print(f"RuntimeError: {error}")
            return True
        for name, p in setup.model.named_parameters():
            size = float(p.grad.norm()) if p.grad is not None else 0.0
            largest[name] = max(largest.get(name, 0.0), size if p.requires_grad else 1.0)
            if p.ndim > 1 and p.requires_grad and len(shares) < len(largest):
                shares[name] = size * float(p.detach().norm()) / max(abs(float(loss.detach())), 1e-30)
        if setup.train_step is None:
            setup.optimizer.step()
    zero = [name for name, size in largest.items() if size == 0]
    print(f"{len(zero)} of {len(largest)} parameters have a gradient of exactly 0 in 8 steps: {', '.join(zero[:6])}")
    for name in list(shares)[:: max(1, len(shares) // 8)]:
        print(f"{name}: |gradient| x |weight| / |loss| = {shares[name]:.2g}")
    told = [name for name in zero if not names or any(name.startswith(n) for n in names)]
    seen = [share for share in shares.values() if share]
    return bool(told) or (bool(seen) and (min(seen) < 1e-7 * max(seen) or max(seen) > 1e5))
