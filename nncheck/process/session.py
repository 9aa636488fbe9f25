"""One target of `nncheck run` loaded and checked within the budget, in the process that has torch; what it finds is told."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nncheck.config import Config
from nncheck.errors import OutOfTime, TargetError, UsageError, explain
from nncheck.lab.deadline import alarm, silenced
from nncheck.observe.repository import file_of_target, folder_in_repository
from nncheck.observe.source import user_frames
from nncheck.process.outputs import Outputs
from nncheck.process.prints import UserOutput
from nncheck.report.paths import split_target
from nncheck.verdict import CheckResult, Cost, Report, TargetResult

if TYPE_CHECKING:
    import torch

    from nncheck.recipe import Setup
    from nncheck.target import Found

FailOn = Literal["fail", "warn", "never"]

Tell = Callable[..., None]
"""Told of every event of a target: ("surroundings", dict), ("target", name) where another optimizer of a script begins,
("parts", TargetResult without checks), ("started", id, stage), ("check", result), ("trace", a failure's whole traceback),
("result", TargetResult), ("all",) behind the last of them, and ("interrupted",). With `--cache`, at its end: ("recorded", what it
has read or None, why it is None)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One target as it was typed, the ids of the checks that are asked of it, and what its project's configuration says.

    arguments: a script's own; None where none were given, not even an empty `--`.
    """

    target: str
    selected: frozenset[str]
    config: Config
    arguments: tuple[str, ...] | None = None

    @property
    def shown(self) -> str:
        """As it is typed: a script with its own arguments."""
        return f"{self.target} -- {shlex.join(self.arguments)}" if self.arguments else self.target


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
    baseline: Path | None = None
    """What the findings are held against."""
    update_baseline: bool = False
    at_once: int | None = None
    """So many targets are checked side by side; None: one a core."""
    cache: bool = False
    """Whether a target of which nothing has changed is not run again."""


def distinct(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """The jobs, without those that name a file again, however it is written."""
    found: dict[str, Job] = {}
    for job in jobs:
        file, name = split_target(job.target)[0], ""
        if not os.path.exists(file):
            file, _, name = file.rpartition(":")
        key = f"{os.path.realpath(file)}:{name}" if os.path.exists(file) else job.target
        key += shlex.join(job.arguments or ())
        found.setdefault(key, job)
    return tuple(found.values())


def make_report(
    results: list[TargetResult],
    options: Options,
    *,
    seconds: float,
    interrupted: bool,
    surroundings: Mapping[str, str] | None = None,
    notices: tuple[str, ...] = (),
) -> Report:
    """The results as a report. surroundings: what the process that has torch told; None: this is that process."""
    import datetime

    from nncheck._version import __version__

    if surroundings is None:
        surroundings = told_surroundings(options)
    least = {"nncheck": __version__, "seed": str(options.seed), "command": options.command}
    return Report(
        nncheck_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=dict(surroundings) or least,
        targets=tuple(
            dataclasses.replace(result, file=file_of_target(split_target(result.target)[0])) for result in results
        ),
        seconds=seconds,
        fail_on=options.fail_on,
        interrupted=interrupted,
        folder=folder_in_repository(),
        notices=notices,
    )


def told_surroundings(options: Options) -> dict[str, str]:
    """What a result depends on besides the code; nothing where an interrupt came in the middle of torch's import."""
    runner = sys.modules.get("nncheck.runner")
    if runner is None or not hasattr(runner, "environment"):
        return {}
    found: dict[str, str] = runner.environment(
        seed=options.seed, device=_device(options) or "as the model", command=options.command
    )
    return found


def check_job(job: Job, options: Options, tell: Tell, *, output: UserOutput, deadline: float) -> None:
    """Check one target, telling of its results as they come, one for each optimizer of a script.

    Raises UsageError for a device that is not there.
    """
    began = time.monotonic()
    try:
        problem = _load_and_check(job, options, tell, output, deadline)
    except KeyboardInterrupt:
        tell("interrupted")
        return
    if problem is not None:
        text = problem + _printed(output)
        tell("result", failed_target(job.shown, text, seconds=time.monotonic() - began))


def _load_and_check(job: Job, options: Options, tell: Tell, output: UserOutput, deadline: float) -> str | None:
    """What is told of one target; why it could not be used, if it could not."""
    import nncheck.runner  # noqa: F401  # it knows the surroundings
    from nncheck.lab.snapshot import seed_everything
    from nncheck.reproduce.binding import binding
    from nncheck.target import use_target
    from nncheck.target.loading import isolated

    tell("surroundings", told_surroundings(options))

    def failed(error: BaseException) -> None:
        if options.full_traceback:
            seen: list[BaseException] = []
            while isinstance(error, TargetError) and error.__context__ is not None and error not in seen:
                seen.append(error)
                error = error.__context__
            tell("trace", "".join(traceback.format_exception(error)))

    told: list[Found] = []  # all of them, once every one has its result: the script only ends after that

    def use(found: tuple[Found, ...]) -> None:
        for part in found:
            name = job.shown + (f" [{part.label}]" if part.label else "")
            if part is not found[0]:
                tell("target", name)
            with silenced():  # each of these keeps the time by itself
                setup = _assemble(name, part, options, tell, deadline)
                result, interrupted = _check(job, name, setup, options, tell, deadline, failed)
                if result.problem is not None:
                    result = dataclasses.replace(result, problem=result.problem + _printed(output))
                bundled = options.outputs.bundle is not None
                set_up = binding(job.target, part, setup, job.arguments or (), loop=bundled)
                tell("result", dataclasses.replace(result, set_up=set_up))
            if interrupted:
                tell("interrupted")
                return
        told.extend(found)
        tell("all")

    with isolated():
        try:
            cpu = options.device == "cpu"
            with alarm(deadline):
                seed_everything(options.seed)
                capture = options.capture if job.arguments is None else True
                arguments = job.arguments or ()
                use_target(job.target, use, flags=options.flags, capture=capture, arguments=arguments, cpu=cpu)
            return None
        except OutOfTime as stop:
            if told:
                return None
            late = f"the time budget of {options.budget:g} s ran out while the target was loaded"
            return explain(TargetError(late, places=user_frames(stop)))
        except TargetError as error:
            failed(error)
            return explain(error)


def _printed(output: UserOutput) -> str:
    lines = output.tail().splitlines()
    return "\n  it printed last:" + "".join(f"\n    {line}" for line in lines) if lines else ""


def _assemble(text: str, found: Found, options: Options, tell: Tell, deadline: float) -> Setup:
    import torch

    from nncheck.runner import describe_optimizer, loss_name
    from nncheck.target.assemble import assemble

    with alarm(deadline):
        setup = assemble(
            found.recipe, seed=options.seed, device=_device(options), origins=found.origins, names=found.names,
            notes=found.notes,
        )  # fmt: skip
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
            listener=_Teller(tell),
            failed=failed,
            notes=job.config.checklist,
        )
    except Interrupted as stop:
        return stop.result, True
    return result, False


class _Teller:
    """Tells what the runner says."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def check_started(self, id: str, stage: str) -> None:
        self._tell("started", id, stage)

    def check_done(self, result: CheckResult) -> None:
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


def failed_target(text: str, problem: str, *, seconds: float) -> TargetResult:
    """A target that could not be checked at all."""
    return TargetResult(
        target=text, model="", parameters=0, loss="", optimizer="", bound=(), notes=(), checks=(), findings=(),
        seconds=seconds, cost=Cost(seconds=seconds), problem=problem,
    )  # fmt: skip
