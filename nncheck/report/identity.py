"""Which finding it is: the same one after an edit elsewhere, with another seed, on another machine.

Neither lines nor figures are in it, nor the script's own arguments: `--epochs 3` or a temporary folder among them would make
every finding a new one. Two runs of one script with different arguments are kept apart by a file for each.
"""

from __future__ import annotations

import hashlib
import posixpath
import re

from nncheck.report.paths import split_target
from nncheck.report.text import one_line
from nncheck.verdict import CheckResult, Place, TargetResult

# A name from the source: `layer3.relu`, `blocks.0.weight`, `DigitNet`. "batch 3, sample 12" is none.
_NAME = re.compile(r"\w+(\.\w+)*")


def identities(target: TargetResult, result: CheckResult) -> tuple[str, ...]:
    """One readable key for each place of a finding, `dead-relu | layer3.relu`; of a finding without a place its id.

    A place without a name of its own (a sample, a batch) goes by its line's text, then by its words without the numbers.
    The target is not in it.
    """
    keys = [f"{result.id} | {key}" for key in map(_key, result.verdict.places) if key]
    return tuple(dict.fromkeys(keys)) or (result.id,)


def fingerprint(target: TargetResult, result: CheckResult | None) -> str:
    """64 hexadecimal digits for a finding of a target; without a result, for that the target could not be checked."""
    keys = ["the target"] if result is None else sorted(identities(target, result))
    return hashlib.sha256("\0".join((target_key(target), *keys)).encode("utf-8", "replace")).hexdigest()


def target_key(target: TargetResult) -> str:
    """The target's file from the repository's root, then the name in it and the optimizer if they were given."""
    typed, label = split_target(target.target)
    typed = typed.replace("\\", "/")
    if target.file:
        _, colon, name = typed.rpartition(":")
        typed = target.file + (f":{name}" if colon and name.isidentifier() else "")
    return one_line(f"{typed} [{label}]" if label else typed)


def _key(place: Place) -> str:
    if _NAME.fullmatch(place.name):
        return place.name
    if place.file and place.source:
        return one_line(f"{posixpath.basename(place.file.replace(chr(92), '/'))}: {place.source}")
    return one_line(re.sub(r"\d+", "#", place.name))
