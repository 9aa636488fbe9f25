"""`python -m bench [steps|growth|memory|data|by_hand|startup|capture|gate ...]`: all tables, or those named, as Markdown."""

from __future__ import annotations

import importlib
import platform
import sys
import warnings

import torch

TABLES = ("steps", "growth", "memory", "data", "by_hand", "startup", "capture", "gate")


def main() -> None:
    """Print each table as soon as it is measured."""
    wanted = sys.argv[1:] or list(TABLES)
    if set(wanted) - set(TABLES):
        sys.exit(f"there are only: {', '.join(TABLES)}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, one thread")
    for name in wanted:
        print(importlib.import_module(f"bench.{name}").measure(), flush=True)


if __name__ == "__main__":
    main()
