"""Saved outputs: compared as text, written anew by `UPDATE_GOLDEN=1 pytest tests/report`."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "golden"


def same_as_saved(name: str, text: str) -> None:
    """Fail with a diff unless the text is what tests/golden holds under this name."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
