"""`nncheck run` from its options to its exit code: side by side in processes that are watched, or in sequence in this one."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import nullcontext

from nncheck.gate.cache import Hit
from nncheck.process.book import Book
from nncheck.process.kept import Kept
from nncheck.process.memory import in_memory, wrote
from nncheck.process.outputs import conclude
from nncheck.process.prints import UserOutput
from nncheck.process.session import Options, check_job
from nncheck.report.terminal import Terminal, printable


def run(options: Options, *, own_process: bool) -> int:
    """Check the targets, print, write the files; returns the exit code. Nothing of the user's reaches standard output.

    own_process: this is the `nncheck` command's, which may fork and lead file descriptors aside. Raises UsageError.
    """
    if own_process and hasattr(os, "fork"):
        return _watched(options)
    return _in_sequence(options, descriptors=own_process)


def _watched(options: Options) -> int:
    from nncheck.process import supervisor

    begun = time.monotonic()
    stream = sys.stderr if options.outputs.json == "-" else sys.stdout
    cores = supervisor.cores()
    together = min(options.at_once or cores, len(options.jobs))
    threads = max(1, cores // together) if together > 1 else None
    preloading: list[threading.Thread] = []

    def preload() -> None:
        """Matplotlib takes 0.7 s to import: beside the checks, which mostly leave a core idle."""
        from nncheck.report import figures

        if options.outputs.report is not None or options.outputs.save_plots is not None:
            preloading.append(threading.Thread(target=figures.preload, name="nncheck-preload", daemon=True))
            preloading[0].start()

    with (
        supervisor.interrupts_noted() as interrupts,
        Terminal(quiet=options.quiet, verbose=options.verbose, stream=stream) as terminal,
        Kept(options, threads=threads) if options.cache else nullcontext() as kept,
    ):
        found = {} if kept is None else {index: kept.find(index) for index in range(len(options.jobs))}
        waiting = [index for index in range(len(options.jobs)) if not isinstance(found.get(index), Hit)]
        slots = min(together, len(waiting))
        book = Book(options, terminal, errors=sys.stderr, live=slots < 2, kept=kept)
        if slots > 1:
            terminal.several(len(waiting), slots)
        for index, answer in found.items():
            if isinstance(answer, Hit):
                book.unchanged(index, answer)
            elif answer:
                book.remarks[index] = f"run again, for this has changed: {answer}"
        try:
            if waiting:
                supervisor.watch(
                    options, book, waiting=waiting, slots=slots, deadline=begun + options.budget, threads=threads,
                    interrupts=interrupts, at_work=preload, journals=None if kept is None else kept.journals,
                )  # fmt: skip
        except supervisor.Broken as fault:
            terminal.close()
            print(f"{supervisor.OWN_FAULT}\n{printable(str(fault))}", file=sys.stderr)
            return 2
        if preloading:
            preloading[0].join()  # matplotlib is not made to be used by one thread while another still imports it
        report = in_memory(book.report(seconds=time.monotonic() - begun), options)
        with nullcontext() if kept is None or options.outputs.report is None else kept.pictures():
            conclude(report, options.outputs, terminal, out=sys.stdout, stream=stream, wrote=wrote(options))
    return report.exit_code


def _in_sequence(options: Options, *, descriptors: bool) -> int:
    begun = time.monotonic()
    with UserOutput(descriptors=descriptors) as output:
        stream = output.err if options.outputs.json == "-" else output.out
        with Terminal(quiet=options.quiet, verbose=options.verbose, stream=stream) as terminal:
            book = Book(options, terminal, errors=output.err, live=True)
            for index, job in enumerate(options.jobs):
                output.forget()
                book.begin(index)
                check_job(
                    job, options, lambda *event, index=index: book.hear(index, event),
                    output=output, deadline=begun + options.budget,
                )  # fmt: skip
                book.ended(index)
                if book.interrupted:
                    break
            report = in_memory(book.report(seconds=time.monotonic() - begun), options)
            conclude(report, options.outputs, terminal, out=output.out, stream=stream, wrote=wrote(options))
    return report.exit_code
