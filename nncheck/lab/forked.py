"""What a DataLoader's worker processes would do, asked of short-lived copies of this process that cannot hang the run."""

from __future__ import annotations

import os
import pickle
import random
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import worker as torch_worker

# Seconds all copies together may take; a data set that needs longer for a few items is not asked.
SECONDS = 2.0


def ask_workers(
    loader: DataLoader[Any], ask: Callable[[Any], Any], *, workers: int = 2, epoch: int = 0
) -> list[Any] | None:
    """`ask(dataset)` inside each of the first `workers` workers of an epoch, seeded as torch seeds them, `worker_init_fn` called.

    None where this cannot be done: no fork on this system, a failure, or no answer in time.
    """
    if not hasattr(os, "fork") or torch.cuda.is_initialized():
        return None
    base = 1_000_003 * (1 + epoch)
    answers = []
    deadline = time.monotonic() + SECONDS
    for index in range(workers):
        answer = _ask_one(loader, ask, index, base, deadline)
        if answer is None:
            return None
        answers.append(answer[0])
    return answers


def _ask_one(loader: DataLoader[Any], ask: Callable[[Any], Any], index: int, base: int, deadline: float) -> Any:
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads, of which the copy uses none
        child = os.fork()
    if child == 0:
        _work(loader, ask, index, base, write)  # never returns
    os.close(write)
    chunks = []
    try:
        while True:
            ready, _, _ = select.select([read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                os.kill(child, signal.SIGKILL)
                return None
            chunk = os.read(read, 1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
    finally:
        os.close(read)
        os.waitpid(child, 0)
    try:
        return pickle.loads(b"".join(chunks)) if chunks else None
    except (pickle.UnpicklingError, EOFError):
        return None


def _work(loader: DataLoader[Any], ask: Callable[[Any], Any], index: int, base: int, write: int) -> None:
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(SECONDS) + 2)  # should the parent be gone
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        torch.set_num_threads(1)  # as a worker does; a pool of threads does not survive a fork
        seed = base + index
        random.seed(seed)
        torch.manual_seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed)
        torch_worker._worker_info = torch_worker.WorkerInfo(
            id=index, num_workers=loader.num_workers, seed=seed, dataset=loader.dataset
        )
        if loader.worker_init_fn is not None:
            loader.worker_init_fn(index)
        answer = pickle.dumps((ask(loader.dataset),))
        while answer:
            answer = answer[os.write(write, answer) :]
        status = 0
    finally:
        os._exit(status)
