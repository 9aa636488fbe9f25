"""The graphs of past losses are kept alive, so that memory grows with every step.

What it does
    Lets a copy of the script go on for a few short epochs, marks the graph of every loss that goes back, and counts how many of
    those that are over are still alive. Looks for the variable that holds them.
Why it matters
    `total += loss` keeps every loss with the graph behind it. Memory grows from step to step until the run dies, often hours
    later; where a hidden state is carried along, each backward pass takes longer as well.
How to fix
    Keep numbers: `total += loss.item()`, `losses.append(loss.item())`. Detach what is carried from batch to batch:
    `hidden = hidden.detach()`.
Known limits
    Epochs are cut to a few batches: what is kept for longer than those, but not for ever, is judged by its growth. Seen are graphs
    of losses that `backward` was called on.
Source
    PyTorch FAQ, "My model reports cuda runtime error(2): out of memory".
"""

from collections.abc import Iterator

from nncheck.probes.kept_graphs import KeptGraphs
from nncheck.registry import check
from nncheck.verdict import Curve, Line, Remedy, Stage, Verdict, failed, passed, skipped

# A watched epoch has eight batches, of which the last two may still be bound to their names: all but one of the others.
MOST = 5
# Without an epoch's beginning to explain why they were let go, they may be a window over a sequence; those are shorter than this.
LONGEST_WINDOW = 10
# Fewer passes than this show neither growth nor its end.
LEAST_PASSES = 7


@check(stage=Stage.LOOP)
def graph_retention(kept: KeptGraphs) -> Verdict:
    passes = kept.passes[-1] if kept.passes else 0
    if passes < LEAST_PASSES:
        return skipped(f"only {passes} backward passes could be watched", measured="")
    most = max(kept.alive)
    measured = f"of {passes} backward passes, the graphs of at most {most} that were long over were alive at one time"
    expected = "graphs of past losses are freed"
    numbers = {"passes": float(passes), "graphs_alive": float(most), "nodes": float(kept.nodes)}
    runs = list(_runs(kept))
    # One that stands still, or is emptied every so often, is a window of fixed length.
    if not any(runs) or not all(runs):
        return passed(measured, expected=expected, numbers=numbers)
    where = f"; `{kept.holder.name}` holds them" if kept.holder is not None else ""
    size = f" and {kept.bytes / 2**20:.3g} MiB saved for them" if kept.bytes >= 2**20 else ""
    name = kept.holder.name if kept.holder is not None else "total"
    return failed(
        f"{measured}, with {kept.nodes:,} nodes in {kept.graphs} graphs when counted{size}{where}",
        expected=expected,
        summary=f"the graph of every past loss is kept alive{f' by {name}' if where else ''}: memory grows with each step",
        numbers=numbers,
        places=() if kept.holder is None else (kept.holder,),
        causes=(
            "a loss is added up or put into a list as a tensor, with the graph behind it",
            "a hidden state, or a tensor that is averaged over steps, goes into the next step without detach()",
        ),
        remedies=(Remedy(text="keep the number, not the tensor", code="loss.item()"),),
        exhibits=(
            Curve(
                title="Graphs of past losses that are alive",
                x_label="backward pass",
                y_label="graphs",
                lines=(Line(label="alive", x=tuple(map(float, kept.passes)), y=tuple(map(float, kept.alive))),),
            ),
        ),
    )


def _runs(kept: KeptGraphs) -> Iterator[bool]:
    """For each run of passes in which nothing was let go: whether the number alive grew to its end."""
    begin = 0
    for at in range(1, len(kept.alive) + 1):
        over = at == len(kept.alive)
        if not over and not (kept.alive[at] < kept.alive[at - 1] / 2 and kept.alive[at - 1] > 2):
            continue
        run = kept.alive[begin:at]
        # Begun and ended where an epoch was, as far as can be seen.
        epochwise = (over or kept.epochs[at] != kept.epochs[at - 1]) and (
            begin == 0 or kept.epochs[begin] != kept.epochs[begin - 1]
        )
        if kept.passes[at - 1] - kept.passes[begin] >= LEAST_PASSES - 1:
            middle = run[len(run) // 2]
            yield run[-1] >= (MOST if epochwise else LONGEST_WINDOW) and run[-1] >= middle + 2
        begin = at
