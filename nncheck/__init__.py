"""nncheck: what to run before every long training.

import nncheck
report = nncheck.check(model, train_loader, loss_fn=criterion, optimizer=optimizer)
report.raise_for_findings()
"""

from typing import TYPE_CHECKING, Any

from nncheck._version import __version__

if TYPE_CHECKING:
    from nncheck.api import check
    from nncheck.errors import FindingsError, NNCheckError, TargetError, UsageError
    from nncheck.recipe import Recipe
    from nncheck.verdict import Report

__all__ = ["FindingsError", "NNCheckError", "Recipe", "Report", "TargetError", "UsageError", "__version__", "check"]

_HOMES = {
    "check": "nncheck.api",
    "Recipe": "nncheck.recipe",
    "Report": "nncheck.verdict",
    "FindingsError": "nncheck.errors",
    "NNCheckError": "nncheck.errors",
    "TargetError": "nncheck.errors",
    "UsageError": "nncheck.errors",
}


def __getattr__(name: str) -> Any:
    # Names are fetched when asked for, so that `nncheck --version` and `list` import no torch.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nncheck' has no attribute {name!r}")
