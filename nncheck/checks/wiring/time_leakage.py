"""Predictions of a sequence model see what they are to predict.

What it does
    Compares the targets of the loss with what the model is given: next-token and next-step targets are the inputs, shifted. Then
    changes the inputs from a position on, for several positions, in eval mode; predictions whose answer comes before must not move.
    In a model of tokens with attention, lets the tokens change places: it should notice, where the task is one of order.
Why it matters
    A model that sees the next token in training reaches a loss near zero and writes nonsense, because when it writes there is no
    next token to copy. Targets that are not shifted, or shifted twice, teach it something else than the task.
How to fix
    Give attention a causal mask (`is_causal=True`, or `-inf` above the diagonal: row t may see columns up to t); make recurrent
    layers unidirectional; pad convolutions on the left only; normalise over features, not over time. Shift the targets by one
    position, once: `logits = model(ids[:, :-1])`, `target = ids[:, 1:]`; start a decoder's input with a begin token.
Known limits
    A model is taken for a predictor of the next step only if its targets say so; taggers, denoisers, masked language models and
    classifiers may look at everything. Targets that are transformed (scaled, differenced) are not recognised. Models that are blind
    to order are left alone unless they hold a table of positions or the same token has several answers.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): use backprop to chart dependencies, t against t + 1.
"""

from typing import Any

from nncheck.probes.time_dependence import TOLERANCE, Followed, TimeDependence
from nncheck.probes.token_order import TokenOrder
from nncheck.registry import check
from nncheck.verdict import Heatmap, Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

EXPECTED = "predictions that do not change with their own answer or anything after it"
# The same token with another answer elsewhere in the sentence: a model that cannot tell places apart gets at most one right. A
# tenth of all predictions is beyond wrong labels.
CONTRADICTED = 0.10

RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
ATTENTION = (
    "softmax",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
    "matmul",
    "bmm",
    "einsum",
    "__matmul__",
)
STATISTICS = (
    "layer_norm",
    "group_norm",
    "batch_norm",
    "instance_norm",
    "mean",
    "sum",
    "var",
    "std",
    "max",
    "amax",
    "cumsum",
)


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"), consequence_of=("batch-mixing",))
def time_leakage(seen: TimeDependence, order: TokenOrder) -> Verdict:
    """Judge how the targets lie, then what the predictions know of them."""
    if seen.window is not None:
        return _in_the_window(seen)
    followed = [item for item in seen.followed if item.matters]
    ahead = [item for item in followed if item.lag >= 1]
    if ahead:
        return _next_step(seen, ahead)
    own = [item for item in followed if item.lag == 0 and item.tokens]
    if own and own[0].sequences > 1 and all(item.leak > 0 for item in own):
        return _given_its_answers(own[0])
    if own and own[0].sequences == 1 and own[0].causal and own[0].mixes:
        return _not_shifted(own[0])
    blind = order.change is not None and order.change <= TOLERANCE
    if blind and (order.contradicted > CONTRADICTED or order.table is not None):
        return _without_order(order)
    if own and own[0].sequences > 1:
        item = own[0]
        return passed(
            f"the targets are {item.argument}, and no prediction changes with its own answer", expected=EXPECTED
        )
    told = "; the model does not tell the order of its tokens apart" if blind else ""
    return skipped(
        f"the targets of {seen.loss} are not {', '.join(seen.arguments)} shifted in time: nothing says that the model must "
        f"not look ahead{told}"
    )


def _next_step(seen: TimeDependence, ahead: list[Followed]) -> Verdict:
    clean = next((item for item in ahead if item.leak == 0), None)
    item = clean or max(ahead, key=lambda one: one.leak)
    if clean is None:
        if item.noisy or (item.ahead is not None and item.ahead.state):
            return skipped(
                f"the targets are {item.argument} shifted by {item.lag}, but a summary of the whole sequence is given to the part "
                "that predicts: taken for an autoencoder"
            )
        return _sees_ahead(item)
    if item.lag >= 2 and item.tokens:
        return _shifted_twice(seen, item)
    return passed(
        f"targets are {item.argument} {item.lag} position(s) on ({item.share:.1%} agree); {item.argument} changed from "
        f"{len(item.asked)} positions on moved no prediction before them",
        expected=EXPECTED,
        numbers=_numbers(item),
    )


def _sees_ahead(item: Followed) -> Verdict:
    function = item.ahead.function if item.ahead is not None else ""
    places: tuple[Place, ...] = (item.ahead.place,) if item.ahead is not None else ()
    where = f", from `{function}` on" if function else ""
    how_far = "one position" if item.reach == 1 else f"up to {item.reach} positions"
    return failed(
        f"targets are {item.argument} {item.lag} position(s) on ({item.share:.1%} agree); changing {item.argument} from a position "
        f"on moves predictions whose answer comes there or before, by up to {item.leak:.2g} of the largest, {how_far} ahead",
        expected=EXPECTED,
        summary=f"predictions see {how_far} ahead, their own answer included{where}",
        numbers=_numbers(item),
        places=places,
        causes=_causes(function, item),
        remedies=(Remedy(text=_remedy(function, item)),),
        exhibits=(_picture(item),),
    )


def _causes(function: str, item: Followed) -> tuple[str, ...]:
    if function in RECURRENT:
        return (f"the {function} layer reads the sequence in both directions",)
    if function.startswith("conv"):
        return ("the convolution is padded on both sides, so its kernel reaches over later positions",)
    if function in STATISTICS or function.endswith("_norm"):
        return (f"`{function}` takes a statistic over the time axis, later positions included",)
    if function in ATTENTION:
        if item.reach == 1:
            return ("the mask is off by one: its diagonal lets each position see the next",)
        return (
            "attention has no causal mask, or one of the other polarity (True means 'masked' for MultiheadAttention and 'may be "
            "seen' for scaled_dot_product_attention)",
            "softmax is taken along the queries instead of the keys",
        )
    return ("something between input and output carries values back in time",)


def _remedy(function: str, item: Followed) -> str:
    if function in RECURRENT:
        return "make the layer with `bidirectional=False`"
    if function.startswith("conv"):
        return (
            "set `padding=0` and pad on the left only: `F.pad(x, ((kernel - 1) * dilation, 0))` before the convolution"
        )
    if function in STATISTICS or function.endswith("_norm"):
        return "normalise over the features of one position alone, e.g. `nn.LayerNorm(features)`, not over time"
    if function in ATTENTION:
        if item.reach == 1:
            return "mask everything above the diagonal: `torch.triu(torch.full((T, T), -inf), diagonal=1)`"
        return (
            "give attention a causal mask: `is_causal=True`, or `torch.triu(torch.full((T, T), -inf), diagonal=1)` added to the "
            "scores, and take softmax along the keys, `dim=-1`"
        )
    return "follow the marked line: each position may be made from earlier positions and itself only"


def _shifted_twice(seen: TimeDependence, item: Followed) -> Verdict:
    return failed(
        f"{item.share:.1%} of the targets are the token {item.lag} positions on, none the next",
        expected="targets that are the next token: a shift by one position",
        summary=f"targets are shifted by {item.lag} positions: the model learns to skip {_words(item.lag - 1)}",
        numbers=_numbers(item),
        places=(seen.place,) if seen.place.file else (),
        causes=("the targets are shifted in the data and once more in the loss or inside the model",),
        remedies=(
            Remedy(text="shift once: give a model that shifts by itself `labels=input_ids`, or shift only in the data"),
        ),
    )


def _words(count: int) -> str:
    return "one token" if count == 1 else f"{count} tokens"


def _not_shifted(item: Followed) -> Verdict:
    return failed(
        f"{item.share:.1%} of the targets are the very token that is given at their position; the model looks back, never ahead",
        expected="targets that are the next token: a shift by one position",
        summary="targets are not shifted: the model is asked for the token it has just been given",
        numbers=_numbers(item),
        causes=("input and target are the same sequence; the shift by one position is missing",),
        remedies=(
            Remedy(
                text="shift by one position",
                code="logits = model(ids[:, :-1])\nloss = loss_fn(logits.flatten(0, 1), ids[:, 1:].flatten())",
            ),
        ),
    )


def _given_its_answers(item: Followed) -> Verdict:
    return failed(
        f"{item.share:.1%} of the targets are what {item.argument} holds at their position, and predictions change with it",
        expected="a decoder's input that lags one position behind its targets",
        summary=f"the decoder is given its own answers: {item.argument} equals the targets",
        numbers=_numbers(item),
        causes=("the decoder's input is not shifted: it holds the target of each position at that position",),
        remedies=(
            Remedy(
                text="start the decoder's input with a begin token and leave out the last: its targets are one position ahead",
                code="decoder_input = target[:, :-1]\nloss = loss_fn(model(source, decoder_input), target[:, 1:])",
            ),
        ),
        exhibits=(_picture(item),),
    )


def _in_the_window(seen: TimeDependence) -> Verdict:
    window = seen.window
    assert window is not None
    return failed(
        f"{window.share:.1%} of the targets equal the last of the {window.steps} steps of {window.argument} ({window.column})",
        expected="a target that comes after the last step of the input",
        summary=f"the input window contains its target: the last step of {window.argument} is the answer",
        numbers={"share": window.share, "steps": float(window.steps)},
        causes=("the window is cut one step too long, or the target is taken one step too early",),
        remedies=(
            Remedy(text="let the window end before the target", code="x, y = series[i : i + steps], series[i + steps]"),
        ),
    )


def _without_order(order: TokenOrder) -> Verdict:
    contradicted = (
        f"; for {order.contradicted:.0%} of the predictions the same token has another answer elsewhere in its sequence"
    )
    table = order.table
    measured = f"tokens that change places change nothing else (difference {order.change:.1g} of the largest output)"
    if table is not None:
        measured += f"; `{table.name}`, {table.detail}, gives every place the same"
    return warned(
        measured + (contradicted if order.contradicted else ""),
        expected="outputs that depend on where a token stands",
        summary="the model cannot tell the positions of its tokens apart",
        numbers={"change": order.change or 0.0, "contradicted": order.contradicted},
        places=(table,) if table is not None else (),
        causes=("attention alone does not know positions, and no positional encoding reaches the embeddings",),
        remedies=(
            Remedy(
                text="add a positional encoding that differs from place to place to the token embeddings",
                code="x = self.embed(ids) + self.position(torch.arange(ids.size(1), device=ids.device))",
            ),
        ),
    )


def _numbers(item: Followed) -> dict[str, float]:
    return {"lag": float(item.lag), "share": item.share, "leak": item.leak, "reach": float(item.reach)}


def _picture(item: Followed) -> Any:
    return Heatmap(
        title=f"How much predictions (rows: positions {item.rows[0]} to {item.rows[-1]}) move with {item.argument} changed from "
        f"positions {', '.join(map(str, item.asked))} on",
        x_label="changed from",
        y_label="prediction",
        values=item.seen,
    )
