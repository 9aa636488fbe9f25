"""The seed is set too late: the weights or the data were drawn before it.

What it does
    Notes where the script sets its first seed, for each of the global generators of torch, NumPy and Python, and whether numbers
    had been drawn from it by then. If so, runs the script to its first step again, from two states of that generator, and compares
    the model's weights and the first batch.
Why it matters
    The script looks repeatable and is not: another run starts from other weights, or splits and orders its data otherwise. A result
    cannot be had again, and two settings are compared with different luck.
How to fix
    Set the seeds first of all, before the data are made or split and before the model is built.
Known limits
    A script that sets no seed at all is not accused, nor one that seeds a generator of its own, or anew in each round of its loop.
    What differs only after the first step is not seen.
Source
    PyTorch documentation, "Reproducibility": `torch.manual_seed` at the beginning of the application; Karpathy, "A Recipe for
    Training Neural Networks" (2019): fix the random seed.
"""

from nncheck.probes.late_seeds import LateSeeds, Seed
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, skipped

CODE = {"torch": "torch.manual_seed(seed)", "NumPy": "np.random.seed(seed)", "Python": "random.seed(seed)"}


@check(stage=Stage.LOOP)
def late_seed(found: LateSeeds) -> Verdict:
    """A seed is late if the first step depends on what was drawn before it, though the generator itself is settled by it."""
    if not found.seeds:
        return skipped("the script sets no seed")
    late = [seed for seed in found.seeds if seed.settled and (seed.weights or seed.data)]
    if not late:
        return passed("; ".join(_said(seed) for seed in found.seeds))
    first = late[0]
    what = " and ".join(
        part for part, differs in (("the model's weights", first.weights), ("the data", first.data)) if differs
    )
    return failed(
        "; ".join(_said(seed) for seed in found.seeds),
        expected="the same weights and data at the first step, whatever was drawn before the script began",
        summary=f"the seed of {first.generator}'s generator is set after {what} were drawn: no two runs are the same",
        places=tuple(seed.place for seed in late),
        causes=("the data or the model are made before the seed is set",),
        remedies=(
            Remedy(
                text="set the seeds first of all, before the data are made and the model is built",
                code="\n".join(CODE[seed.generator] for seed in late),
            ),
        ),
    )


def _said(seed: Seed) -> str:
    if seed.again:
        return f"{seed.generator} is seeded in every round of the loop"
    if not seed.drawn:
        return f"{seed.generator} is seeded before anything is drawn from it"
    differs = [f"{seed.weights} of {seed.tensors} tensors of the model"] if seed.weights else []
    differs += ["the first batch"] if seed.data else []
    if not seed.settled:
        return f"{seed.generator} is seeded for a while only"
    if not differs:
        return f"{seed.generator} is seeded after numbers were drawn from it, on which nothing depends"
    return f"{seed.generator} is seeded after numbers were drawn from it, on which {' and '.join(differs)} depend"
