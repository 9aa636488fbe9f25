"""One line asks the device for a value once a sample, and waits for it each time.

What it does
    Follows in a copy of the script what is computed from a model's inputs and outputs, and counts for each of your lines how often
    it asks for a value of these: `.item()`, `float(t)`, `.tolist()`, `.cpu()`, `.numpy()`, `if t:`, `print(t)`.
Why it matters
    A GPU works ahead of the program. Each such call waits until it has done everything, and moves one number: some ten
    microseconds, a thousand times for a thousand samples, while the device stands idle. On a CPU it costs little.
How to fix
    Compute over the whole batch, then ask once: `(output.argmax(1) == target).sum().item()`. Where single values are needed, move
    them together first: `predictions = output.argmax(1).tolist()`.
Known limits
    What a data set, a collate function or a library asks is not counted. A few calls an iteration, for a log, are ordinary.
Source
    PyTorch Performance Tuning Guide, "Avoid unnecessary CPU-GPU synchronization".
"""

from nncheck.probes.device_waits import AskingLine, DeviceWaits
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, passed, skipped, warned

# Losses, a few metrics, a few norms for a log stay below this; a loop over the samples of a batch does not.
MANY = 16
# What is done once, or at the end of an epoch, costs little: it has to follow most of the model's calls.
LEAST_CALLS = 3


@check(stage=Stage.LOOP)
def host_sync(waits: DeviceWaits) -> Verdict:
    if not waits.calls:
        return skipped("the script's loop called no model that could be followed")
    most = max((max(line.counts) for line in waits.lines), default=0)
    measured = f"over {waits.calls} calls of the model, one line asked for at most {most} values after a call"
    expected = f"fewer than one value a sample, or than {MANY}, at each line"
    numbers = {"most_per_call": float(most), "lines": float(len(waits.lines))}
    slow = sorted((line for line in waits.lines if _often(line)), key=lambda line: -max(line.counts))
    if not slow:
        return passed(measured, expected=expected, numbers=numbers)
    worst = slow[0]
    said = "; ".join(
        f"{'training' if line.training else 'validation'}: {max(line.counts)} times for a batch of "
        f"{line.rows[line.counts.index(max(line.counts))]}"
        for line in slow[:3]
    )
    return warned(
        f"{measured} ({said})",
        expected=expected,
        summary=f"one line asks for a value {max(worst.counts)} times a batch: on a GPU, each one waits for the device",
        numbers=numbers,
        places=tuple(line.place for line in slow[:5]),
        causes=("the samples of a batch are gone through one by one",),
        remedies=(
            Remedy(
                text="compute over the whole batch and ask once",
                code="hits += (output.argmax(dim=1) == target).sum().item()",
            ),
            Remedy(text="move the batch first, then read it", code="predictions = output.argmax(dim=1).tolist()"),
        ),
    )


def _often(line: AskingLine) -> bool:
    often = sum(count >= MANY and count >= rows for count, rows in zip(line.counts, line.rows, strict=True))
    return often >= LEAST_CALLS and 2 * often >= line.calls
