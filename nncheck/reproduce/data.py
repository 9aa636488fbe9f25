"""The data: what the network is given, in which order and scale, and what the loss makes of the labels."""

from __future__ import annotations

import math
from typing import Any

import torch

from nncheck.reproduce.setup import SetUp, first_input, loss_calls, split, take, tensors


def inputs_and_labels(loader: Any, most: int = 200) -> tuple[Any, Any]:
    """The main inputs of a loader, a row a sample, and their targets; (samples, values), (samples, ...)."""
    rows, labels = [], []
    for batch in take(loader, most):
        inputs, target = split(batch)
        first = tensors(inputs)[0]
        rows.append(first.reshape(len(first), -1))
        labels.append(tensors(target)[0] if tensors(target) else first)
    return torch.cat(rows), torch.cat(labels)


def input_preview(setup: SetUp) -> bool:
    """Whether the samples that enter the network differ."""
    given = torch.cat([first_input(setup, batch) for batch in take(setup.train_loader, 2)])
    same = (given == given[:1]).flatten(1).all(1).double().mean()
    blank = (given == given.flatten(1)[:, 0].reshape(-1, *[1] * (given.ndim - 1))).flatten(1).all(1).double().mean()
    print(
        f"{tuple(given.shape)} values from {float(given.min()):.4g} to {float(given.max()):.4g} enter the first layer"
    )
    print(f"{float(same):.0%} of the samples equal the first one; {float(blank):.0%} hold a single value")
    return bool(same == 1 or blank >= 0.95)


def data_scale(setup: SetUp) -> bool:
    """Mean and spread of what enters the network, by feature or channel, and of a regression's targets."""
    batches = take(setup.train_loader, 8)
    given = torch.cat([first_input(setup, batch) for batch in batches]).double()
    by_feature = given.transpose(1, -1 if given.ndim < 4 else 1).flatten(2) if given.ndim > 2 else given.unsqueeze(2)
    mean, spread = by_feature.mean((0, 2)), by_feature.std((0, 2))
    offset = (mean.abs() / spread.clamp_min(1e-12))[spread > 0]
    middle = float(offset.median()) if len(offset) else 0.0
    print(f"inputs: mean {float(given.mean()):.4g}, spread {float(given.std()):.4g}, "
          f"from {float(given.min()):.4g} to {float(given.max()):.4g}")  # fmt: skip
    print(f"by feature, mean / spread is {middle:.4g} in the middle (should be below 10)")
    uneven = float(spread.max() / spread[spread > 0].min()) if (spread > 0).any() else 1.0
    print(f"the widest feature spreads {uneven:.4g} times as much as the narrowest")
    targets = [tensors(split(batch)[1])[0] for batch in batches if tensors(split(batch)[1])]
    size = 0.0
    if targets and targets[0].is_floating_point():
        size = float(torch.cat(targets).double().square().mean().sqrt())
        print(f"targets: root mean square {size:.4g}")
    return middle > 10 or float(given.std()) > 20 or float(given.std()) < 0.01 or uneven > 100 or size > 100


def label_range(setup: SetUp, *, ignore_index: float = math.nan) -> bool:
    """The labels against the outputs that there are and the label that the loss leaves out."""
    _, labels = inputs_and_labels(setup.train_loader)
    batch = take(setup.train_loader, 1)[0]
    values, counts = labels.flatten()[:1_000_000].unique(return_counts=True)
    print("labels:", ", ".join(f"{v:g} x {n}" for v, n in zip(values[:20].tolist(), counts[:20].tolist(), strict=True)))
    ignored = getattr(setup.criterion, "ignore_index", None if math.isnan(ignore_index) else int(ignore_index))
    if ignored is not None and not labels.is_floating_point():
        share = float((labels == ignored).double().mean())
        print(f"the loss leaves the label {ignored} out: {share:.2%} of the targets")
        if share and ignored >= 0:
            return True
    try:
        calls = loss_calls(setup, batch)
    except (IndexError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}")
        return True
    for name, predictions, target, _ in calls:
        if name in ("cross_entropy", "nll_loss", "multi_margin_loss") and not target.is_floating_point():
            classes = predictions.shape[1]
            print(f"{name} has scores for labels from 0 to {classes - 1}")
            if values.max() >= classes or (values.min() < 0 and values.min() != -100) or len(values) == 1:
                return True
            return bool(values.min() > 0) or bool(classes > math.e * len(values))
        if name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
            print(f"{name} wants targets from 0 to 1, and is given {float(values.min()):g} to {float(values.max()):g}")
            return bool(values.min() < 0 or values.max() > 1 or len(values) == 1)
    return len(values) == 1


def class_balance(setup: SetUp) -> bool:
    """How often each class comes, and the weights that the loss gives it."""
    _, labels = inputs_and_labels(setup.train_loader)
    rate = float(labels.double().mean())
    weight = getattr(setup.criterion, "pos_weight", None)
    if weight is not None:
        balanced = (1 - rate) / rate
        print(f"{rate:.2%} of the labels are positive; pos_weight is {float(weight.mean()):.4g}, "
              f"negatives / positives is {balanced:.4g}")  # fmt: skip
        return (float(weight.mean()) < 1) != (balanced < 1)
    classes, counts = labels.flatten().unique(return_counts=True)
    weights = getattr(setup.criterion, "weight", None)
    for number, (label, count) in enumerate(zip(classes.tolist(), counts.tolist(), strict=True)):
        said = "" if weights is None else f", weight {float(weights[number]):.4g}"
        print(f"class {label:g}: {count / counts.sum().item():.2%}{said}")
    if weights is not None and len(weights) == len(counts):
        pairs = torch.stack([weights.double().cpu(), counts.double()])
        return float(torch.corrcoef(pairs)[0, 1]) > 0.5
    return float(counts.max() / counts.sum()) > 0.99


def duplicate_samples(setup: SetUp) -> bool:
    """How many inputs of an epoch are the same to the bit."""
    rows, labels = inputs_and_labels(setup.train_loader)
    different, place = rows.unique(dim=0, return_inverse=True)
    copies = 1 - len(different) / len(rows)
    print(f"{len(rows)} samples, {len(different)} different inputs: {copies:.1%} are copies (should be below 10 %)")
    disputed = 0
    if labels.ndim == 1:
        pairs = torch.stack([place, labels.unique(return_inverse=True)[1]], 1).unique(dim=0)
        disputed = int((pairs[:, 0].bincount() > 1).sum())
        print(f"{disputed} inputs come with different labels")
    return copies > 0.1 or disputed > 0.05 * len(different)


def shuffle(setup: SetUp) -> bool:
    """The entropy of the labels within batches, against batches made of the same labels shuffled; the next epoch's order."""
    epochs = [torch.cat([tensors(split(b)[1])[0].flatten() for b in take(setup.train_loader, 200)]) for _ in range(2)]
    size = tensors(take(setup.train_loader, 1)[0])[0].shape[0]

    def mixed(labels: Any) -> float:
        codes = labels.unique(return_inverse=True)[1]
        found = []
        for part in codes.split(size):
            share = part.bincount().double() / len(part)
            found.append(float(-(share[share > 0] * share[share > 0].log()).sum()))
        return sum(found) / len(found)

    now, by_chance = mixed(epochs[0]), mixed(epochs[0][torch.randperm(len(epochs[0]))])
    same = len(epochs[0]) == len(epochs[1]) and torch.equal(*epochs)
    print(f"entropy of the labels in a batch of {size}: {now:.4g}; were they shuffled: {by_chance:.4g}")
    print(f"the next epoch has {'the same' if same else 'another'} order")
    return same


def train_val_leakage(setup: SetUp) -> bool:
    """How many validation inputs are training inputs, bit for bit; and whether a column is the target."""
    train, labels = inputs_and_labels(setup.train_loader)
    held_out, _ = inputs_and_labels(setup.val_loader)
    known = {row.numpy().tobytes() for row in train.cpu().contiguous()}
    shared = sum(row.numpy().tobytes() in known for row in held_out.cpu().contiguous())
    print(f"{shared} of {len(held_out)} validation inputs are among {len(train)} training inputs")
    columns = []
    if labels.numel() == len(train):
        answer = labels.reshape(-1, 1).double()
        columns = [j for j in range(train.shape[1]) if torch.allclose(train[:, j : j + 1].double(), answer)]
        print(f"input columns that are the target: {columns or 'none'}")
    return shared > 0.05 * len(held_out) or bool(columns)


def train_val_shift(setup: SetUp) -> bool:
    """Mean and spread of every feature, in training and in validation; and validation batches fetched twice."""
    train, _ = inputs_and_labels(setup.train_loader)
    held_out, _ = inputs_and_labels(setup.val_loader)
    train, held_out = train.double(), held_out.double()
    for name, rows in (("training", train), ("validation", held_out)):
        print(f"{name}: mean {float(rows.mean()):.4g}, spread {float(rows.std()):.4g}")
    once, twice = inputs_and_labels(setup.val_loader, 1)[0], inputs_and_labels(setup.val_loader, 1)[0]
    changed = bool((once != twice).any())
    print(f"validation samples {'change' if changed else 'do not change'} when they are fetched again")
    if train.shape[1] != held_out.shape[1]:
        return True
    spread = train.std(0)
    used = spread > 0
    far = ((train.mean(0) - held_out.mean(0)).abs() > 0.5 * spread) | (held_out.std(0) > 2 * spread)
    far |= held_out.std(0) < spread / 2
    share = float(far[used].double().mean())
    print(f"{share:.0%} of the features differ by half a deviation in mean, or twice in spread")
    return share > 0.5 or changed
