"""Samples in a batch leak into each other.

What it does
    In eval mode, asks by gradients which inputs each sample's output depends on: groups of samples by the bits of their
    index, so that two backward passes a bit cover every ordered pair. Between samples the gradient must be exactly zero.
    Then the samples change places, and the outputs must change places with them.
Why it matters
    A `view` where a `transpose` was meant still runs and still trains, only a little worse; at test time a prediction depends
    on which samples happen to share its batch.
How to fix
    Put back `transpose`/`permute` where a `view`/`reshape` moved the batch dimension; give `nn.LSTM`, `nn.GRU`,
    `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` `batch_first=True` if the batch comes first; take `softmax`, `mean`,
    `max` and positions along the dimension of the features or of time, not along that of the batch.
Known limits
    At most 64 samples of one batch, in eval mode with BatchNorm's statistics held constant, so BatchNorm is not blamed for
    training. Losses that compare samples, similarity matrices, routing by experts and graph batches are left out, and said so.
    A dependence through a detached statistic is not seen. In a training_step each call of the model is asked by itself.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): use backprop to chart dependencies.
"""

from nncheck.probes.batch_dependencies import BatchDependencies, Mixing
from nncheck.registry import check
from nncheck.verdict import Heatmap, Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

EXPECTED = "a gradient of exactly 0 between different samples"
LAYERS_TAKING_TIME_FIRST = {"lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward"}
# All samples change places; that most give another output tells a position from a tie that was broken the other way.
MOST = 0.5


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values", "gradient-check"))
def batch_mixing(deps: BatchDependencies) -> Verdict:
    """Judge what depends on what."""
    looked = f"{deps.samples} of the batch's {deps.batch_size}" if deps.samples < deps.batch_size else f"{deps.samples}"
    if deps.leaking:
        return _mixed(deps, looked)
    if deps.swap.change is not None and deps.swap.moved > MOST:
        return _placed(deps, looked)
    if deps.passes:
        measured = f"no gradient between any two of {looked} samples, in {deps.passes} backward passes"
    else:
        measured = f"the outputs of {looked} samples have no gradient at the inputs"
    if deps.swap.change is not None:
        measured += f"; in another order their outputs differ by {deps.swap.change:.0e}"
    numbers = {"samples": deps.samples, "passes": deps.passes, "share": 0.0}
    if deps.statistics:
        where = deps.statistics[0]
        return warned(
            f"{len(deps.statistics)} BatchNorm layer(s) use the statistics of the batch in eval mode: {where.name}",
            expected="running statistics in eval mode",
            summary="predictions in eval mode depend on the batch: BatchNorm does not use running statistics",
            numbers={**numbers, "layers": len(deps.statistics)},
            places=deps.statistics,
            causes=(
                "the layer was made with `track_running_stats=False`",
                "the layer stays in train mode: it is not a registered submodule, or `train()` is overridden",
            ),
            remedies=(
                Remedy(
                    text="keep running statistics (`track_running_stats=True`) and let `model.eval()` reach the layer"
                ),
            ),
        )
    return passed(measured, expected=EXPECTED, numbers=numbers)


def _mixed(deps: BatchDependencies, looked: str) -> Verdict:
    mixing = deps.mixing or Mixing(function="", place=None, reach=())
    if mixing.by_design:
        return skipped(mixing.by_design)
    measured = (
        f"the outputs of {deps.leaking} of {deps.passes} groups of samples reach other samples' inputs ({looked} samples; "
        f"largest gradient {deps.share:.2g} times that at an own input)"
    )
    reached = [(i, j) for i, row in enumerate(mixing.reach) for j, value in enumerate(row) if i != j and value > 0]
    if reached:
        size = len(mixing.reach)
        measured += f"; of {size} samples, {len(reached)} of {size * (size - 1)} ordered pairs are connected"
    exhibits: tuple[Heatmap, ...] = ()
    if mixing.reach:
        exhibits = (
            Heatmap(
                title="Which output depends on which input (only the diagonal should)",
                x_label="input of sample",
                y_label="output of sample",
                values=mixing.reach,
            ),
        )
    where = f", from `{mixing.function}` on" if mixing.function else ""
    return failed(
        measured,
        expected=EXPECTED,
        summary=f"samples of a batch leak into each other{where}",
        numbers={"samples": deps.samples, "passes": deps.passes, "share": deps.share, "pairs": len(reached)},
        places=(mixing.place,) if mixing.place else (),
        causes=_causes(mixing.function, reached),
        remedies=(Remedy(text=_remedy(mixing.function)),),
        exhibits=exhibits,
    )


def _causes(function: str, reached: list[tuple[int, int]]) -> tuple[str, ...]:
    causes = []
    if function in ("view", "reshape", "unflatten", "flatten"):
        causes.append(f"`{function}` cuts the values anew across the batch where dimensions were to change places")
    elif function in LAYERS_TAKING_TIME_FIRST:
        causes.append("the layer takes (time, batch, features) and was given (batch, time, features)")
    elif "softmax" in function:
        causes.append(f"`{function}` is taken along the batch dimension")
    elif function in ("matmul", "__matmul__", "mm", "bmm", "einsum", "scaled_dot_product_attention"):
        causes.append("a product sums over the batch dimension, or pairs every sample with every other")
    elif function:
        causes.append(f"`{function}` meets a statistic over the batch, or rows of other samples")
    if len({j for _, j in reached}) == 1:
        causes.append(f"every output is made from sample {reached[0][1]}: an index picks from the batch dimension")
    return tuple(causes)


def _remedy(function: str) -> str:
    if function in ("view", "reshape", "unflatten", "flatten"):
        return "use `transpose` or `permute` to move dimensions; `view` and `reshape` only to split or join neighbouring ones"
    if function in LAYERS_TAKING_TIME_FIRST:
        return "make the layer with `batch_first=True`, or transpose its input to (time, batch, features)"
    if "softmax" in function:
        return "take it along the classes or keys: `dim=-1`"
    return "keep dimension 0, the batch, out of sums, means, maxima, products and indices"


def _placed(deps: BatchDependencies, looked: str) -> Verdict:
    change = deps.swap.change
    where = f" from `{deps.swap.function}` on" if deps.swap.function else ""
    places: tuple[Place, ...] = (deps.swap.place,) if deps.swap.place else ()
    return failed(
        f"the same samples in another order give outputs that differ by {change:.2g} of their size in the median{where}",
        expected="outputs that change places with their samples, to 1e-4",
        summary="a sample's output depends on its place in the batch",
        numbers={"samples": deps.samples, "passes": deps.passes, "change": change or 0.0, "moved": deps.swap.moved},
        places=places,
        causes=("positions are counted along the batch: `pe[:x.size(0)]` on a batch-first input, or the reverse",),
        remedies=(Remedy(text="index positions by time: `pe[:, :x.size(1)]` for (batch, time, features)"),),
    )
