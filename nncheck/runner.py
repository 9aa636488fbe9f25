"""Stages to verdicts to a report: asks every check in order, and keeps one crash from stopping the rest."""

from __future__ import annotations

import datetime
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch

from nncheck._version import __version__
from nncheck.checklist import tick
from nncheck.errors import CannotMeasure, OutOfTime, TargetError, explain
from nncheck.evidence import Evidence
from nncheck.lab.deadline import alarm
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.pointing import pointed
from nncheck.observe.repository import folder_in_repository
from nncheck.observe.source import user_frames, words_of
from nncheck.probes.first_step import FirstStep
from nncheck.recipe import Setup
from nncheck.registry import Check, Entry, load, order_findings
from nncheck.verdict import (
    CheckResult,
    Cost,
    Place,
    Report,
    Status,
    TargetResult,
    Verdict,
    errored,
    skipped,
)

OUT_OF_TIME = "the time budget is used up"

# So many batches are fetched before the first check: a loader that fails early is told once, not by every check.
LOOK_AHEAD = 4


class Listener(Protocol):
    """Told of progress while a target is checked."""

    def check_started(self, id: str, stage: str) -> None: ...

    def check_done(self, result: CheckResult) -> None: ...


class Interrupted(BaseException):
    """Ctrl-C during a target; carries what was done so far."""

    def __init__(self, result: TargetResult) -> None:
        super().__init__()
        self.result = result


def run_target(
    name: str,
    setup: Setup,
    *,
    selected: frozenset[str],
    seed: int,
    device: torch.device,
    deadline: float = float("inf"),
    listener: Listener | None = None,
    failed: Callable[[Exception], None] = lambda error: None,
    notes: Mapping[str, str] = MappingProxyType({}),
    asked_at: Place | None = None,
) -> TargetResult:
    """Ask every selected check of one set-up; `failed` is told of every exception that becomes words.

    notes: what a person wrote to the checklist's items, by item. asked_at: the user's line for findings of which none is known.

    Raises Interrupted (with the partial result) on Ctrl-C.
    """
    started = time.monotonic()
    results: dict[str, CheckResult] = {}
    problem: str | None = None
    interrupted = False
    sandbox = Sandbox(setup, seed=seed, device=device, deadline=deadline)
    evidence = Evidence(sandbox)
    checks = [check for check in load() if check.entry.id in selected]
    with alarm(deadline):
        try:
            evidence.get(FirstStep)
            sandbox.feed.take(LOOK_AHEAD)
        except TargetError as error:
            failed(error)
            problem = explain(error)
        except OutOfTime as stop:
            text = "the time budget ran out before the first training step was done"
            problem = explain(TargetError(text, places=user_frames(stop)))
        except CannotMeasure as reason:
            problem = str(reason)
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:  # noqa: BLE001  # e.g. a backward written by the user: told like any failure of theirs
            failed(error)
            text = f"the first training step failed: {type(error).__name__}: {words_of(error)}"
            problem = explain(TargetError(text, places=user_frames(error)))
    if problem is not None or interrupted:
        checks = []
    for check in checks:
        entry = check.entry
        if listener:
            listener.check_started(entry.id, str(entry.stage))
        begun = time.monotonic()
        verdict = skipped("interrupted") if interrupted else _blocked(entry, results)
        if verdict is None:
            try:
                with alarm(deadline):
                    verdict = _ask(check, evidence, failed)
            except OutOfTime:
                verdict = skipped(OUT_OF_TIME)
            except KeyboardInterrupt:
                interrupted = True
                verdict = skipped("interrupted")
        verdict = pointed(verdict, entry.part, setup, asked_at)
        result = CheckResult(
            id=entry.id, stage=entry.stage, verdict=verdict, seconds=time.monotonic() - begun, doc=entry.doc
        )
        results[entry.id] = result
        if listener:
            listener.check_done(result)
    if problem is None and sandbox.feed.failure is not None:
        problem = explain(sandbox.feed.failure)
    target = TargetResult(
        target=name,
        model=type(sandbox.model).__name__,
        parameters=sum(p.numel() for p in sandbox.model.parameters() if not torch.nn.parameter.is_lazy(p)),
        loss=loss_name(setup),
        optimizer=describe_optimizer(setup),
        bound=setup.bound,
        notes=setup.notes,
        checks=tuple(results.values()),
        findings=order_findings(results),
        seconds=time.monotonic() - started,
        cost=Cost(
            seconds=time.monotonic() - started,
            train_steps=sandbox.meter.train_steps,
            forward=sandbox.meter.forward,
            backward=sandbox.meter.backward,
            by_probe=dict(sandbox.meter.by_probe),
        ),
        checklist=tick({id: result.status for id, result in results.items()}, notes),
        problem=problem,
    )
    if interrupted:
        raise Interrupted(target)
    return target


def _blocked(entry: Entry, results: Mapping[str, CheckResult]) -> Verdict | None:
    for id in entry.after:
        result = results.get(id)
        if result is None:
            continue
        if result.status in (Status.FAIL, Status.ERROR):
            return skipped(f"needs {id}, which did not pass")
        if result.status is Status.SKIP and "which did not pass" in (result.verdict.why_skipped or ""):
            return skipped(result.verdict.why_skipped or "")
    return None


def _given(check: Check, evidence: Evidence, kind: type) -> Any:
    try:
        return evidence.get(kind)
    except CannotMeasure:
        if kind in check.optional:
            return None
        raise


def _ask(check: Check, evidence: Evidence, failed: Callable[[Exception], None]) -> Verdict:
    try:
        return check.function(*[_given(check, evidence, kind) for kind in check.needs])
    except CannotMeasure as reason:
        return skipped(str(reason))
    except OutOfTime:
        return skipped(OUT_OF_TIME)
    except TargetError as error:
        failed(error)
        return errored(error.message, places=error.places)
    except Exception as error:  # noqa: BLE001  # one crash never stops the rest: it becomes this check's verdict
        failed(error)
        return errored(f"could not tell: {type(error).__name__}: {words_of(error)}", places=user_frames(error))


def loss_name(setup: Setup) -> str:
    """The loss in a word or two."""
    if setup.training_step is not None:
        return getattr(setup.training_step, "label", "training_step")
    if setup.loss_fn is None:
        return "returned by the model"
    return getattr(setup.loss_fn, "__name__", type(setup.loss_fn).__name__)


def describe_optimizer(setup: Setup) -> str:
    """`Adam(lr=0.001)`, and whether it is ours."""
    rates = {float(group["lr"]) for group in setup.optimizer.param_groups if "lr" in group}
    text = f"{type(setup.optimizer).__name__}(lr={'/'.join(f'{r:g}' for r in sorted(rates))})"
    return f"{text} (nncheck's default)" if setup.default_optimizer else text


def environment(*, seed: int, device: torch.device | str, command: str) -> dict[str, str]:
    """What a result depends on besides the code."""
    return {
        "nncheck": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "seed": str(seed),
        "threads": str(torch.get_num_threads()),
        "command": command,
    }


def make_report(
    targets: Iterable[TargetResult],
    *,
    seed: int,
    device: torch.device,
    seconds: float,
    fail_on: Any = "fail",
    interrupted: bool = False,
    command: str | None = None,
) -> Report:
    """Targets and their surroundings as one report."""
    return Report(
        nncheck_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=environment(seed=seed, device=device, command=command or " ".join(sys.argv)),
        targets=tuple(targets),
        seconds=seconds,
        fail_on=fail_on,
        interrupted=interrupted,
        folder=folder_in_repository(),
    )
