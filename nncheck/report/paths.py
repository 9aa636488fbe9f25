"""Paths as the repository's root sees them: what a review, a code scan or an annotation is placed by."""

from __future__ import annotations

import os
import posixpath
import re

from nncheck.verdict import Report, TargetResult


def from_root(report: Report, file: str) -> str | None:
    """A place's file relative to the repository's root, with slashes; None if it lies outside."""
    path = file.replace(os.sep, "/")
    if posixpath.isabs(path) or os.path.isabs(file):
        return None
    whole = posixpath.normpath(posixpath.join(report.folder, path))
    return None if whole == ".." or whole.startswith("../") else whole


def target_file(report: Report, target: TargetResult) -> str | None:
    """The file that was asked about, relative to the repository's root; None if it lies outside."""
    # `gan.py:build`, `train.py -- --epochs 3 [Adam of netD]`, `package.module`
    name = re.sub(r" \[[^][]+ of [^][]+\]$", "", target.target.partition(" -- ")[0])
    match = re.match(r"(.+\.(?:py|ipynb))(?::[\w.]+)?$", name)
    path = match.group(1) if match else name.partition(":")[0].replace(".", "/") + ".py"
    return from_root(report, path)
