"""One run of `nncheck run`: every target loaded and checked within the budget, and what was found written out."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nncheck.config import Config
from nncheck.errors import OutOfTime, TargetError, UsageError, explain
from nncheck.gate.rules import Rules, judged
from nncheck.lab.deadline import alarm, silenced
from nncheck.observe.repository import file_of_target, folder_in_repository
from nncheck.observe.source import user_frames
from nncheck.process.outputs import Outputs, conclude
from nncheck.process.prints import UserOutput
from nncheck.report.paths import split_target
from nncheck.report.terminal import Terminal, printable
from nncheck.verdict import CheckResult, Cost, Report, TargetResult

if TYPE_CHECKING:
    import torch

    from nncheck.recipe import Setup
    from nncheck.target import Found

FailOn = Literal["fail", "warn", "never"]

Tell = Callable[..., None]
"""Told of every event: ("target", text, selected ids), ("parts", TargetResult without checks), ("started", id, stage) and
("check", result)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One target as it was typed, the ids of the checks that are asked of it, and what its project's configuration says."""

    target: str
    selected: frozenset[str]
    config: Config
    folder: Path = field(default_factory=Path.cwd)
    """The working directory as the command found it."""

    @property
    def rules(self) -> Rules:
        """What the configuration says of this target's findings."""
        return Rules(config=self.config, target=self.target, folder=self.folder)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `nncheck run` was asked."""

    jobs: tuple[Job, ...]
    flags: Mapping[str, str] = field(default_factory=dict)
    outputs: Outputs = field(default_factory=Outputs)
    fail_on: FailOn = "fail"
    seed: int = 0
    device: str = "auto"
    budget: float = 600.0
    quiet: bool = False
    verbose: bool = False
    full_traceback: bool = False
    command: str = "nncheck run"
    capture: bool | None = None
    """Whether the target is run as a script; None: if it is written to be."""
    arguments: tuple[str, ...] = ()
    """The script's own."""


def run(options: Options, *, descriptors: bool, tell: Tell = lambda *_: None) -> int:
    """Check the targets, print, write the files; returns the exit code. Nothing of the user's reaches standard output."""
    begun = time.monotonic()
    with UserOutput(descriptors=descriptors) as output:
        stream = output.err if options.outputs.json == "-" else output.out
        with Terminal(quiet=options.quiet, verbose=options.verbose, stream=stream) as terminal:
            report = _check_all(options, terminal, output, tell, deadline=begun + options.budget)
            tell("finishing")
            if _draws(options):
                _preload().join()  # matplotlib is not made to be used by one thread while another still imports it
            conclude(report, options.outputs, terminal, out=output.out, stream=stream)
        return report.exit_code


def _check_all(options: Options, terminal: Terminal, output: UserOutput, tell: Tell, *, deadline: float) -> Report:
    begun = time.monotonic()
    results: list[TargetResult] = []
    interrupted = False
    for job in options.jobs:
        try:
            terminal.start(job.target)
            tell("target", job.target, job.selected)
            interrupted = _check_one(job, options, terminal, output, tell, deadline, results)
        except KeyboardInterrupt:
            interrupted = True
            break
        if interrupted:
            break
    return make_report(results, options, seconds=time.monotonic() - begun, interrupted=interrupted)


def make_report(
    results: list[TargetResult], options: Options, *, seconds: float, interrupted: bool, environment: bool = True
) -> Report:
    """The results as a report. `environment=False`: without asking torch about itself."""
    import datetime

    from nncheck._version import __version__

    surroundings = {"nncheck": __version__, "seed": str(options.seed), "command": options.command}
    # Not before the runner is there: an interrupt may have come in the middle of torch's import.
    runner = sys.modules.get("nncheck.runner") if environment else None
    if runner is not None and hasattr(runner, "environment"):
        surroundings = runner.environment(
            seed=options.seed, device=_device(options) or "as the model", command=options.command
        )
    under, notices = judged(results, {job.target: job.rules for job in options.jobs})
    return Report(
        nncheck_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=surroundings,
        targets=tuple(
            dataclasses.replace(result, file=file_of_target(split_target(result.target)[0])) for result in under
        ),
        seconds=seconds,
        fail_on=options.fail_on,
        interrupted=interrupted,
        folder=folder_in_repository(),
        notices=notices,
    )


def _check_one(
    job: Job,
    options: Options,
    terminal: Terminal,
    output: UserOutput,
    tell: Tell,
    deadline: float,
    results: list[TargetResult],
) -> bool:
    """Check one target and add its results, one for each optimizer of a script; returns whether it was interrupted."""
    from nncheck.lab.snapshot import seed_everything
    from nncheck.target import use_target
    from nncheck.target.loading import isolated

    def failed(error: BaseException) -> None:
        if options.full_traceback:
            terminal.close()  # a spinner would draw over it
            seen: list[BaseException] = []
            while isinstance(error, TargetError) and error.__context__ is not None and error not in seen:
                seen.append(error)
                error = error.__context__
            output.err.write(printable("".join(traceback.format_exception(error))))

    interrupted = False

    def use(found: tuple[Found, ...]) -> None:
        nonlocal interrupted
        for part in found:
            if interrupted:
                return
            name = shown_target(job.target, options) + (f" [{part.label}]" if part.label else "")
            if part is not found[0]:
                terminal.start(name)
                tell("target", name, job.selected)
            with silenced():  # each of these keeps the time by itself
                setup = _assemble(name, part, options, terminal, tell, deadline)
                result, interrupted = _check(job, name, setup, options, terminal, tell, deadline, failed)
            if result.problem is not None:
                result = dataclasses.replace(result, problem=result.problem + _printed(output))
            results.append(result)

    began = time.monotonic()
    output.forget()
    if _draws(options):
        _preload()
    with isolated():
        try:
            cpu = options.device == "cpu"
            with alarm(deadline):
                seed_everything(options.seed)
                use_target(
                    job.target, use, flags=options.flags, capture=options.capture, arguments=options.arguments, cpu=cpu
                )
            return interrupted
        except OutOfTime as stop:
            late = f"the time budget of {options.budget:g} s ran out while the target was loaded"
            problem = explain(TargetError(late, places=user_frames(stop)))
        except TargetError as error:
            failed(error)
            problem = explain(error)
    results.append(
        failed_target(shown_target(job.target, options), problem + _printed(output), seconds=time.monotonic() - began)
    )
    return False


def shown_target(text: str, options: Options) -> str:
    """A target as it is typed: a script with its own arguments."""
    return f"{text} -- {shlex.join(options.arguments)}" if options.arguments else text


def _printed(output: UserOutput) -> str:
    lines = output.tail().splitlines()
    return "\n  it printed last:" + "".join(f"\n    {line}" for line in lines) if lines else ""


def _assemble(text: str, found: Found, options: Options, terminal: Terminal, tell: Tell, deadline: float) -> Setup:
    import torch

    from nncheck.runner import describe_optimizer, loss_name
    from nncheck.target.assemble import assemble

    with alarm(deadline):
        setup = assemble(
            found.recipe, seed=options.seed, device=_device(options), origins=found.origins, names=found.names,
            notes=found.notes,
        )  # fmt: skip
    terminal.bound(setup.bound, setup.notes)
    parameters = [p for p in setup.model.parameters() if not torch.nn.parameter.is_lazy(p)]
    tell(
        "parts",
        TargetResult(
            target=text, model=type(setup.model).__name__, parameters=sum(p.numel() for p in parameters),
            loss=loss_name(setup), optimizer=describe_optimizer(setup), bound=setup.bound, notes=setup.notes,
            checks=(), findings=(), seconds=0.0, cost=Cost(),
        ),
    )  # fmt: skip
    return setup


def _check(
    job: Job,
    name: str,
    setup: Setup,
    options: Options,
    terminal: Terminal,
    tell: Tell,
    deadline: float,
    failed: Callable[[Exception], None],
) -> tuple[TargetResult, bool]:
    import torch

    from nncheck.runner import Interrupted, run_target

    device = _device(options)
    if device is None:
        device = next((p.device for p in setup.model.parameters()), torch.device("cpu"))
    try:
        result = run_target(
            name,
            setup,
            selected=job.selected,
            seed=options.seed,
            device=device,
            deadline=deadline,
            listener=_Both(terminal, tell, job.rules),
            failed=failed,
            notes=job.config.checklist,
        )
    except Interrupted as stop:
        return stop.result, True
    return result, False


class _Both:
    """Tells the terminal, under the project's rules, and the process that watches over this one, as the check gave it."""

    def __init__(self, terminal: Terminal, tell: Tell, rules: Rules) -> None:
        self._terminal, self._tell, self._rules = terminal, tell, rules

    def check_started(self, id: str, stage: str) -> None:
        self._terminal.check_started(id, stage)
        self._tell("started", id, stage)

    def check_done(self, result: CheckResult) -> None:
        self._terminal.check_done(self._rules.on_check(result))
        self._tell("check", result)


def _device(options: Options) -> torch.device | None:
    """The device asked for; None for "auto": wherever the model is already."""
    import torch

    if options.device == "auto":
        return None
    ready = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not ready[options.device]:
        raise UsageError(f"--device {options.device}: torch {torch.__version__} finds no such device here")
    return torch.device(options.device)


def _draws(options: Options) -> bool:
    return options.outputs.report is not None or options.outputs.save_plots is not None


@functools.cache
def _preload() -> threading.Thread:
    """Import matplotlib beside the checks: it takes 0.7 s, and they mostly leave a core idle."""
    from nncheck.report.figures import preload

    thread = threading.Thread(target=preload, name="nncheck-preload", daemon=True)
    thread.start()
    return thread


def failed_target(text: str, problem: str, *, seconds: float) -> TargetResult:
    """A target that could not be checked at all."""
    return TargetResult(
        target=text, model="", parameters=0, loss="", optimizer="", bound=(), notes=(), checks=(), findings=(),
        seconds=seconds, cost=Cost(seconds=seconds), problem=problem,
    )  # fmt: skip
