"""Sums that grow with the batches: what is kept of an activation, a layer's output or an attention, never the values."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nncheck.observe.activation_kinds import Kind, slope
from nncheck.observe.watch import Call
from nncheck.verdict import Place

# Slopes and histograms are means over values; this many, evenly spread, give them to better than 1 % (1 / sqrt(n)).
SAMPLED = 1 << 15
BINS = 40
# Attention is looked at for so many samples (or samples times heads, where these are one dimension) and query rows.
ATTENTION_SAMPLES = 4
ATTENTION_ROWS = 64
# Scores at or below this are masks (-inf, -1e9, -1e4 are all in use), not attention.
MASKED = -9e3
# With fewer keys a row's entropy says little: two keys give 0.74 +- 0.2 of the maximum by chance.
FEWEST_KEYS = 4


@dataclass
class UnitStream:
    """One activation function at one place: how many values of each unit are above zero, and how steep it is."""

    name: str
    layer: str
    kind: Kind
    place: Place
    node: Any = None
    trains: bool = True
    active: Tensor | None = None
    count: int = 0
    slopes: list[Tensor] = field(default_factory=list)
    histogram: Tensor | None = None

    def add(self, given: Any, result: Tensor, axis: int) -> None:
        """Take in one call."""
        values = result.detach()
        if self.kind.family == "rectifier":
            others = [d for d in range(values.ndim) if d != axis % max(1, values.ndim)]
            active = (values > 0).sum(others) if others else (values > 0).long()
            self.active = active if self.active is None else self.active + active
            self.count += values.numel() // max(1, active.numel())
        else:
            self.count += values.numel()
        step = max(1, values.numel() // SAMPLED)
        kept = isinstance(given, Tensor) and given.shape == result.shape and given.data_ptr() != result.data_ptr()
        some = values.reshape(-1)[::step].float()
        source = given.detach().reshape(-1)[::step].float() if kept else some
        steep = slope(self.kind, source, some, kept=kept)
        if steep is None:
            return
        self.slopes.append(steep.mean())
        if self.kind.family != "rectifier":
            bounded = self.kind.family == "bounded"
            low, high = (self.kind.low, self.kind.high) if bounded else (0.0, 1.0)
            counts = torch.histc(some if bounded else steep, bins=BINS, min=low, max=high)
            self.histogram = counts if self.histogram is None else self.histogram + counts


@dataclass
class ScaleStream:
    """One weight layer's output: its spread over the samples and what all samples have in common."""

    name: str
    place: Place
    function: str
    segment: int
    node: Any = None
    has_weight: Tensor | None = None
    spread: Tensor | None = None
    level: Tensor | None = None
    given_spread: Tensor | None = None
    given_level: Tensor | None = None


def spread_and_level(
    values: Tensor, *, samples: int, bias: Tensor | None = None, axis: int = -1
) -> tuple[Tensor, Tensor]:
    """Root mean variance over samples, and mean size of the mean over samples without the layer's own bias.

    The first is NaN for one position of one sample, which has nothing to vary from.
    The bias is taken off because an output set to the targets' mean, however large, hides nothing.
    """
    values = values.detach().float()
    shape = tuple(values.shape)
    over: int | list[int] = shape.index(samples) if samples > 1 and samples in shape else 0
    if samples <= 1 and values.ndim > 1:  # one sample: its positions are all there is to compare
        over = [d for d in range(values.ndim) if d != axis % values.ndim]
    variance, mean = torch.var_mean(values, over, correction=0, keepdim=True)
    if isinstance(over, list) and all(shape[d] == 1 for d in over):
        variance = variance + torch.nan
    if bias is not None and bias.ndim == 1 and bias.numel() == values.shape[axis]:
        mean = mean - bias.detach().float().reshape([-1 if d == axis % values.ndim else 1 for d in range(values.ndim)])
    return variance.mean().sqrt(), mean.abs().mean()


@dataclass
class AttentionStream:
    """One attention: its normalised entropy and largest weight, averaged over rows, weighted by their allowed keys."""

    name: str
    place: Place
    keys: int
    heads: int
    scaled: bool = True
    node: Any = None
    entropy: Tensor | None = None
    top: Tensor | None = None
    weight: Tensor | None = None


def from_softmax(call: Call) -> tuple[Tensor, Tensor] | None:
    """Scores and weights of a softmax over the last of three or more dimensions; None for others."""
    scores, weights = (call.args[0] if call.args else call.kwargs.get("input")), call.result
    dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim")
    if not isinstance(scores, Tensor) or weights.ndim < 3 or dim not in (-1, weights.ndim - 1):
        return None
    samples = ATTENTION_SAMPLES if weights.ndim > 3 else 8 * ATTENTION_SAMPLES
    return _rows(scores[:samples]), _rows(weights[:samples])


def from_scaled_dot_product(call: Call) -> tuple[Tensor, Tensor] | None:
    """Scores and weights of `F.scaled_dot_product_attention`, computed again for a few samples."""
    bound = _bind(_SDPA, call)
    query, key = (bound[name].detach()[:ATTENTION_SAMPLES].float() for name in ("query", "key"))
    mask = bound["attn_mask"]
    if query.ndim < 3:
        return None
    if key.ndim > 3 and key.shape[-3] != query.shape[-3]:  # grouped queries
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scale = bound["scale"] or 1 / math.sqrt(query.shape[-1])
    scores = query @ key.transpose(-1, -2) * scale
    if mask is not None:
        few = mask.detach()[:ATTENTION_SAMPLES] if mask.ndim == scores.ndim and mask.shape[0] > 1 else mask.detach()
        scores = scores.masked_fill(~few, -math.inf) if few.dtype == torch.bool else scores + few.float()
    if bound["is_causal"]:
        scores = _causal(scores)
    return _rows(scores), _rows(scores.softmax(-1).nan_to_num())


def from_multi_head(call: Call) -> tuple[Tensor, Tensor] | None:
    """Scores and weights of `F.multi_head_attention_forward` (`nn.MultiheadAttention`), computed again for a few samples."""
    bound = _bind(_MHA, call)
    query, key = (bound[name].detach().float() for name in ("query", "key"))
    query, key = (t.unsqueeze(1) if t.ndim == 2 else t[:, :ATTENTION_SAMPLES] for t in (query, key))
    width, heads = query.shape[-1], bound["num_heads"]
    if bound["use_separate_proj_weight"]:
        weights = bound["q_proj_weight"].detach().float(), bound["k_proj_weight"].detach().float()
    else:
        weights = tuple(bound["in_proj_weight"].detach().float().chunk(3)[:2])
    bias = bound["in_proj_bias"]
    biases = (None, None) if bias is None else tuple(bias.detach().float().chunk(3)[:2])
    query, key = F.linear(query, weights[0], biases[0]), F.linear(key, weights[1], biases[1])
    few = query.shape[1]

    def split(t: Tensor) -> Tensor:  # (length, samples, width) -> (samples, heads, length, width of a head)
        return t.reshape(t.shape[0], few, heads, width // heads).permute(1, 2, 0, 3)

    scores = split(query) @ split(key).transpose(-1, -2) / math.sqrt(width // heads)
    mask, padding = bound["attn_mask"], bound["key_padding_mask"]
    if mask is not None:
        mask = mask.detach()
        if mask.ndim == 3:  # (samples * heads, queries, keys)
            mask = mask.reshape(-1, heads, *mask.shape[1:])[:few]
        scores = scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask.float()
    elif bound["is_causal"]:
        scores = _causal(scores)
    if padding is not None:
        padding = padding.detach().reshape(-1, padding.shape[-1])[:few, None, None, :]
        scores = scores.masked_fill(padding, -math.inf) if padding.dtype == torch.bool else scores + padding.float()
    return _rows(scores), _rows(scores.softmax(-1).nan_to_num())


def take_in(stream: AttentionStream, scores: Tensor, weights: Tensor) -> None:
    """Add rows (any number of leading dimensions, then queries, then keys) to an attention's sums."""
    weights = weights.detach().float()
    keys = (scores.detach() > MASKED).sum(-1)
    entropy = torch.special.entr(weights).sum(-1) / keys.clamp(min=2).log()
    counted = (keys >= FEWEST_KEYS) * keys
    sums = (entropy * counted).sum(), (weights.amax(-1) * counted).sum(), counted.sum().float()
    if stream.weight is None or stream.entropy is None or stream.top is None:
        stream.entropy, stream.top, stream.weight = sums
    else:
        stream.entropy, stream.top, stream.weight = (
            stream.entropy + sums[0],
            stream.top + sums[1],
            stream.weight + sums[2],
        )


_SDPA = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in (
            ("query", None), ("key", None), ("value", None), ("attn_mask", None), ("dropout_p", 0.0), ("is_causal", False),
            ("scale", None), ("enable_gqa", False),
        )
    ]
)  # fmt: skip
_MHA = inspect.signature(F.multi_head_attention_forward)


def _bind(signature: inspect.Signature, call: Call) -> dict[str, Any]:
    bound = signature.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _rows(scores: Tensor) -> Tensor:
    # Evenly spread query rows: of a causal mask the first and the last are unlike.
    step = max(1, scores.shape[-2] // ATTENTION_ROWS)
    return scores.detach()[..., ::step, :].float()


def _causal(scores: Tensor) -> Tensor:
    queries, keys = scores.shape[-2:]
    allowed = torch.ones(queries, keys, dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~allowed, -math.inf)
