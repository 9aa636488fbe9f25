"""Whether a model of tokens with attention can tell their places apart: the tokens change places."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nncheck.errors import TargetError
from nncheck.lab import batch as batches
from nncheck.lab.alignment import SHORTEST, losses_of
from nncheck.lab.doors import Argument, Passage, woken_passage
from nncheck.lab.future import beyond
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import CLASSIFICATION, LossCall
from nncheck.observe.source import layer_place
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward", "softmax"}
# Samples and tokens compared in search of places with the same token and another answer.
COMPARED = 32, 256


@dataclass(frozen=True, kw_only=True)
class TokenOrder:
    """What changes when all tokens change places, the same way in every sample.

    change: of the outputs, beyond changing places with the tokens, relative to the largest; None if there are no tokens, no
    attention or nothing to compare. contradicted: the share of the predictions, one for each token, for which the same token
    stands elsewhere in the sequence with another answer. table: what was made to hold a row for each position, if anything was.
    """

    change: float | None
    contradicted: float
    table: Place | None


@probe
def token_order(sandbox: Sandbox) -> TokenOrder:
    """Two forward passes, where the model has attention over tokens."""
    nothing = TokenOrder(change=None, contradicted=0.0, table=None)
    batch = sandbox.feed.first
    inputs, _ = batches.split(batch)
    if not any(t.ndim == 2 and not t.is_floating_point() for _, t in batches.named_tensors(inputs)):
        return nothing
    functions: set[str] = set()
    constant: dict[str, int] = {}

    def see(call: Call) -> None:
        functions.add(call.name)
        if call.name == "embedding" and len(call.args) > 1 and isinstance(call.args[0], Tensor):
            ids, weight = call.args[:2]
            if ids.numel() > 1 and not bool((ids != ids.flatten()[0]).any()):
                constant[call.layer] = len(weight)

    with suppress(TargetError):
        before = woken_passage(sandbox, batch, calls=(see,))
        tokens = _tokens(before.arguments, batches.size(batch))
        if tokens is None or not functions & ATTENTION:
            return nothing
        order = torch.randperm(tokens.size(1), generator=torch.Generator().manual_seed(0)).to(tokens.device)

        def change(index: int, tensor: Tensor) -> Tensor:
            return tensor[:, order] if tensor.ndim == 2 and tensor.shape == tokens.shape else tensor

        after = woken_passage(sandbox, batch, change=change)
        calls = losses_of(before, batch)
        return TokenOrder(
            change=_change(before, after, tokens, order),
            contradicted=_contradicted(tokens, calls[0]) if calls else 0.0,
            table=_table(sandbox, tokens.size(1), constant),
        )
    return nothing


def _tokens(arguments: list[Argument], size: int) -> Tensor | None:
    """The one argument of tokens, masks aside."""
    found = [
        a.tensor
        for a in arguments
        if a.tensor.ndim == 2 and not a.tensor.is_floating_point() and a.tensor.dtype is not torch.bool
        if "mask" not in a.name and a.name.partition(".")[0] not in batches.TARGET_KEYS
    ]
    if len(found) != 1 or found[0].size(0) != size or found[0].size(1) < SHORTEST:
        return None
    # Two values may be a mask, and so few tokens say little.
    return found[0] if int(found[0].max() - found[0].min()) >= SHORTEST else None


def _change(before: Passage, after: Passage, tokens: Tensor, order: Tensor) -> float | None:
    """How far outputs moved: those of each token against its own, those of the whole sequence as they are."""
    worst: float | None = None
    if len(before.outputs) != len(after.outputs):
        return None
    samples, steps = tokens.shape
    for (_, a), (_, b) in zip(before.outputs, after.outputs, strict=True):
        if a.shape != b.shape or a.ndim < 1 or a.size(0) != samples or not a.numel():
            continue
        axes = [d for d in range(1, a.ndim) if a.size(d) == steps]
        if len(axes) > 1:
            return None
        moved = a.index_select(axes[0], order) if axes else a
        change = float(beyond(moved, b, a[a.isfinite()].abs().max().double().clamp_min(1e-30)).max())
        worst = change if worst is None else max(worst, change)
    return worst


def _contradicted(tokens: Tensor, call: LossCall) -> float:
    """The share of the answers that another place of the sequence, with the same token, contradicts."""
    target = call.target.detach()
    if call.kind not in CLASSIFICATION or target.is_floating_point() or target.numel() != tokens.numel():
        return 0.0
    samples, steps = COMPARED
    labels = target.reshape(tokens.shape)[:samples, :steps]
    ids = tokens[:samples, :steps]
    counted = labels != call.options.get("ignore_index", -100)
    same = (ids[:, :, None] == ids[:, None, :]) & counted[:, :, None] & counted[:, None, :]
    against = (same & (labels[:, :, None] != labels[:, None, :])).any(2)
    return float(against.sum()) / max(1, int(counted.sum()))


def _table(sandbox: Sandbox, steps: int, constant: dict[str, int]) -> Place | None:
    """An embedding with room for every position that was asked for one row only, or a buffer or a parameter of the user's own
    with a row for every position, as wide as the embeddings."""
    model = sandbox.model
    for layer, rows in constant.items():
        if rows >= steps:
            return layer_place(model, layer, f"an embedding of {rows} rows")
    widths = {m.embedding_dim for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, tensor in (*model.named_buffers(), *model.named_parameters()):
        owner = model.get_submodule(name.rpartition(".")[0])
        if type(owner).__module__.startswith("torch.nn") or tensor.ndim not in (2, 3):
            continue
        if tensor.size(-1) in widths and steps <= max(tensor.shape[:-1]) == tensor.shape[:-1].numel():
            return layer_place(model, name, f"a table of {max(tensor.shape[:-1])} rows")
    return None
