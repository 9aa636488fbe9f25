"""Learning: short runs of the set-up's own training, and what they should show."""

from __future__ import annotations

import math

import torch

from nncheck.reproduce.setup import (
    SetUp,
    endless,
    mean_loss,
    output,
    samples,
    seed,
    split,
    take,
    tensors,
    train,
    with_inputs,
)


def overfit_batch(setup: SetUp, *, goal: float = 0.0, end: float = math.nan) -> bool:
    """One batch of 16 samples, learned by heart without dropout."""
    batch = samples(take(setup.train_loader, 1)[0], slice(0, 16))
    for module in setup.model.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    losses = train(setup, [batch] * 200)
    print(f"16 samples, 200 updates: loss from {losses[0]:.4g} to {losses[-1]:.4g}; learned by heart it is {goal:.4g}")
    return not losses[-1] < ((end + goal) / 2 if end == end else losses[0] / 2)


def input_baseline(setup: SetUp) -> bool:
    """Two copies train on fresh samples, one on the real inputs, one on constant ones: does the first do better?"""
    batches = [batch for batch in take(setup.train_loader, 64) if tensors(batch)]
    seed(0)
    real = train(setup, batches)
    other = setup.again()
    fixed = tensors(split(batches[0])[0])[0][:1]
    seed(0)
    blind = train(other, [with_inputs(batch, lambda t: fixed.expand_as(t).clone()) for batch in batches])
    gain = torch.tensor(blind[len(blind) // 4 :]) - torch.tensor(real[len(real) // 4 :])
    t = float(gain.mean() / (gain.std() / len(gain) ** 0.5 + 1e-12))
    print(f"fresh samples, {len(batches)} updates: loss {sum(real[-10:]) / 10:.4g} with the inputs, "
          f"{sum(blind[-10:]) / 10:.4g} with a constant one (the inputs help by t = {t:.2g})")  # fmt: skip
    return t < 2


def simple_baseline(setup: SetUp) -> bool:
    """A straight line by least squares, on samples held back, against the network after 60 updates."""
    batches = take(setup.train_loader, 60)
    rows = torch.cat([tensors(split(b)[0])[0].flatten(1) for b in batches]).double()
    labels = torch.cat([tensors(split(b)[1])[0] for b in batches])
    rows = torch.cat([rows, torch.ones(len(rows), 1).double()], 1)
    classes = not labels.is_floating_point()
    wanted = torch.nn.functional.one_hot(labels).double() if classes else labels.reshape(len(labels), -1).double()
    cut = len(rows) - len(rows) // 5
    line = torch.linalg.lstsq(rows[:cut], wanted[:cut], driver="gelsd").solution
    train(setup, endless(setup.train_loader, 60))
    setup.model.eval()
    held_out = take(setup.val_loader or setup.train_loader, 4)
    with torch.no_grad():
        answers = torch.cat([output(setup, b) for b in held_out])
    truth = torch.cat([tensors(split(b)[1])[0] for b in held_out])
    if classes:
        right = float(((rows[cut:] @ line).argmax(1) == labels[cut:]).double().mean())
        network = float((answers.argmax(1) == truth).double().mean())
        least = float(labels.bincount().max() / len(labels))
    else:
        right = 1 - float((rows[cut:] @ line - wanted[cut:]).square().mean() / wanted[cut:].var())
        network = 1 - float((answers.flatten() - truth.flatten()).square().mean() / truth.double().var())
        least = 0.0
    kind = "right" if classes else "of the variance explained"
    print(f"always the same answer: {least:.1%} {kind}; a straight line: {right:.1%}; the network: {network:.1%}")
    return network < (least + right) / 2


def loss_decreases(setup: SetUp) -> bool:
    """The loss of the same samples before and after 60 updates, and after the first alone."""
    known = take(setup.train_loader, 3)
    before = mean_loss(setup, known)
    losses = train(setup, known[:1])
    first = [losses[0], train(setup, known[:1])[0]]
    print(f"the first update takes the loss of its own batch from {first[0]:.4g} to {first[1]:.4g}")
    train(setup, endless(setup.train_loader, 58))
    after = mean_loss(setup, known)
    print(f"60 updates take the loss of the same samples from {before:.4g} to {after:.4g}")
    return not after < 0.95 * before if before > 0 else after < before


def learning_rate(setup: SetUp, *, valley: float = math.nan) -> bool:
    """The loss of the same samples before and after 32 updates, at the set-up's rate and at another."""
    falls = {}
    for rate in (None, valley):
        if rate is not None and math.isnan(rate):
            continue
        one = setup if rate is None else setup.again()
        for group in one.optimizer.param_groups:
            group["lr"] = group["lr"] if rate is None else rate
        shown = one.optimizer.param_groups[0]["lr"]
        known = take(one.train_loader, 2)
        before = mean_loss(one, known)
        train(one, endless(one.train_loader, 32))
        after = mean_loss(one, known)
        falls[rate] = before - after if math.isfinite(after) else -math.inf
        print(f"at a rate of {shown:.3g}, 32 updates take the loss from {before:.4g} to {after:.4g}")
    return falls[None] < 0 or (valley in falls and falls[None] < 0.1 * falls[valley])


def update_ratio(setup: SetUp) -> bool:
    """The length of each update against that of its weight, for every weight matrix; the middle of updates 2 to 20."""
    ratios: dict[str, list[float]] = {}
    for number, batch in enumerate(endless(setup.train_loader, 20)):
        before = {n: p.detach().clone() for n, p in setup.model.named_parameters() if p.ndim > 1 and p.requires_grad}
        train(setup, [batch])
        for name, p in setup.model.named_parameters():
            if name in before and number and before[name].any():
                ratios.setdefault(name, []).append(float((p.detach() - before[name]).norm() / before[name].norm()))
    middle = {name: sorted(found)[len(found) // 2] for name, found in ratios.items()}
    for name, ratio in middle.items():
        print(f"{name}: updates of {ratio:.2g} of the weight")
    print("about 1e-3 is usual; float32 loses what is below 6e-8 of a weight")
    return min(middle.values()) < 1e-6 or sorted(middle.values())[len(middle) // 2] > 0.3


def lr_schedule(setup: SetUp) -> bool:
    """The rate through the planned run (or three epochs, or one if it steps with every batch), without training."""
    batches = len(setup.train_loader)
    by_step = setup.interval == "step"
    epochs = setup.epochs or (1 if by_step else 3)
    rates = []
    try:
        for _ in range(epochs * batches if by_step else epochs):
            rates.append(setup.optimizer.param_groups[0]["lr"])
            setup.optimizer.step()
            setup.scheduler.step()
    except Exception as error:  # noqa: BLE001
        print(f"after {len(rates)} steps of the schedule: {type(error).__name__}: {error}")
        return True
    shown = sorted({0, *range(0, len(rates), max(1, len(rates) // 12)), len(rates) - 1})
    print(f"{type(setup.scheduler).__name__}, stepped {'with every batch' if by_step else 'once an epoch'}; "
          f"{epochs} epochs of {batches} batches")  # fmt: skip
    print("rate:", ", ".join(f"{i}: {rates[i]:.3g}" for i in shown))
    peak, top = max(rates), rates.index(max(rates))
    lowest = min(range(top, len(rates)), key=lambda i: rates[i])
    climbs = rates[lowest] < 0.1 * peak and max(rates[lowest:]) > rates[lowest] + 0.1 * peak
    if climbs:
        print(f"it is lowest at {lowest}, and climbs again")
    dead = sum(rate < 0.0101 * peak for rate in rates[top:]) > 0.75 * len(rates)
    if dead:
        print("most of the run has next to no rate")
    return climbs or dead or peak == 0 or (len(rates) > 1 and rates[-1] == 0 and rates[len(rates) * 3 // 4] == 0)


def prediction_dynamics(setup: SetUp, *, spread_first: float = math.nan, spread_last: float = math.nan) -> bool:
    """How far the outputs of 64 samples are apart, before and after 60 updates."""
    known = samples(take(setup.train_loader, 1)[0], slice(0, 64))

    def apart() -> float:
        setup.model.eval()
        with torch.no_grad():
            out = output(setup, known).flatten(1)
        return float(out.std(0).mean())

    before = apart()
    losses = train(setup, endless(setup.train_loader, 60))
    after = apart()
    print(f"the outputs of {len(tensors(known)[0])} samples are {before:.4g} apart, after 60 updates {after:.4g}; "
          f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g}")  # fmt: skip
    measured = spread_last / spread_first
    return after / before < math.sqrt(measured) if measured < 0.5 else after / before < 0.1


def generalization(setup: SetUp, *, fresh: float = math.nan, validation: float = math.nan) -> bool:
    """The loss after 60 updates: on samples trained on, on training samples never trained on, on validation samples."""
    batches = take(setup.train_loader, 1000)
    cut = max(1, min(len(batches) * 4 // 5, 60))
    train(setup, (batches[i % cut] for i in range(60)))
    seen, new, held_out = (
        mean_loss(setup, part) for part in (batches[:5], batches[cut:] or batches, take(setup.val_loader, 5))
    )
    print(f"after 60 updates the loss is {seen:.4g} on samples trained on, {new:.4g} on new ones of the training set, "
          f"{held_out:.4g} on validation samples")  # fmt: skip
    return held_out > (fresh + validation) / 2 if validation > fresh else held_out > 2 * new
