"""What a script left in its folders before its first step and nobody needs: empty folders, and a library's logs of this run."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nncheck.capture.script import Script


def left_behind(script: Script) -> list[str]:
    """Files that the script wrote before its first step and that stay."""
    passing = _of_the_run(script)
    written = dict.fromkeys(script.record.written)
    return [
        file for file in written if not os.path.isdir(file) and not any(_within(file, folder) for folder in passing)
    ]


def tidy(script: Script) -> None:
    """Remove what the script made and nobody needs."""
    for folder in _of_the_run(script):
        shutil.rmtree(folder, ignore_errors=True)
    for made in script.overlay.made:
        for folder, _, _ in os.walk(made, topdown=False):  # nothing, for a file
            with contextlib.suppress(OSError):  # there is something in it
                os.rmdir(folder)


def _of_the_run(script: Script) -> list[str]:
    """The library's folders of this run; one that was there before is the user's."""
    named = [] if script.library is None else [os.path.abspath(folder) for folder in script.library.folders]
    return [folder for folder in named if script.overlay.is_made(folder)]


def _within(file: str, folder: str) -> bool:
    return file.startswith(folder + os.sep)
