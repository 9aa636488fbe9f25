"""What every result depends on besides its own target: nncheck itself, Python, the machine and the packages that are installed."""

from __future__ import annotations

import hashlib
import os
import platform
import site
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import nncheck
from nncheck.gate.inputs import variable_digest

# Compiled libraries ask for these by themselves, and Python before any of its code runs.
_ASKED_BY_COMPILED_CODE = (
    "OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "GOTO_*", "BLIS_*", "VECLIB_*", "NUMEXPR_*", "DNNL_*", "ONEDNN_*", "TORCH*",
    "PYTORCH*", "ATEN_*", "C10_*", "CUDA_*", "CUBLAS*", "CUDNN*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "XLA_*", "PYTHON*",
    "LD_*", "DYLD_*", "LC_*", "LANG*", "TZ", "MALLOC_*", "GLIBC_*",
)  # fmt: skip


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """A line for each of them, so that what differs can be named. Some tens of milliseconds; imports nothing."""
    return {
        "nncheck": f"{nncheck.__version__} {_digest(_own_sources())}",
        "Python": f"{sys.version} {sys.executable} {sys.prefix}",
        "the machine": f"{platform.platform()} {platform.machine()} {os.cpu_count()}",
        "the installed packages": _digest(_installed()),
        "the environment": _digest(f"{name} {variable_digest(environment, name)}" for name in _ASKED_BY_COMPILED_CODE),
    }


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _own_sources() -> Iterable[str]:
    """Every file of nncheck: of an editable installation the version says nothing."""
    root = Path(nncheck.__file__).parent
    for path in sorted(root.rglob("*.py")):
        yield f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _installed() -> Iterable[str]:
    """Name, version and list of hashed files of each package in each folder where packages are installed."""
    folders = {*site.getsitepackages(), site.getusersitepackages(), *(e for e in sys.path if "-packages" in e)}
    for folder in sorted(folders):
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        for entry in entries:
            path = Path(folder, entry)
            if entry.endswith((".dist-info", ".egg-info")):
                yield f"{path} {_contents(path / 'RECORD' if path.is_dir() else path)}"
            elif entry.endswith((".pth", ".egg-link")) or entry in ("sitecustomize.py", "usercustomize.py"):
                yield f"{path} {_contents(path)}"


def _contents(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
