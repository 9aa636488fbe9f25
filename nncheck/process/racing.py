"""One run of `nncheck race`: the target loaded, the race run within the budget, the table printed and the files written."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from nncheck.errors import OutOfTime, TargetError
from nncheck.lab.deadline import alarm, silenced
from nncheck.process.outputs import write_outputs
from nncheck.process.prints import UserOutput
from nncheck.process.session import Options, make_report
from nncheck.report.text import clean
from nncheck.verdict import CheckResult, Cost, Doc, Stage, Table, TargetResult

if TYPE_CHECKING:
    import torch

    from nncheck.target import Found

DOC = Doc(
    title="The classic optimizers raced on your own task.",
    what="SGD, momentum, Nesterov, AdaGrad, RMSprop, Adadelta, Adam, NAdam, AMSGrad, and Adam followed by SGD train the network "
    "from the same start, on the same batches with the same random numbers, each at three rates; so does your own optimizer. "
    "Weight decay, schedules and parameter groups are your own optimizer's alone. The score is the loss in eval mode on samples "
    "that nobody trained on.",
    why="Which rates work at all, and how far apart the optimizers are, is known after a minute.",
    fix="Nothing is wrong. If another is far ahead, try it in a longer run, with its rate searched around the one named.",
    limits="A short race favours fast starters: what is ahead after a hundred updates need not be after a hundred thousand, and "
    "SGD with momentum and a schedule often generalises best in the end. One seed; small differences are luck.",
    source="Wilson et al., The Marginal Value of Adaptive Gradient Methods (2017); Keskar & Socher, Adam to SGD (2017).",
)


def run(options: Options, *, steps: int, descriptors: bool) -> int:
    """Race, print, write the files; the exit code is 0, 2 if nobody could run, or 130 after an interrupt."""
    begun = time.monotonic()
    with UserOutput(descriptors=descriptors) as output:
        stream = output.err if options.outputs.json == "-" else output.out
        result, interrupted = _race(options, steps, stream, deadline=begun + options.budget)
        report = make_report([result], options, seconds=time.monotonic() - begun, interrupted=interrupted)
        for check in result.checks:
            stream.write("\n" + clean(check.summary) + "\n\n")
            for exhibit in check.verdict.exhibits:
                if isinstance(exhibit, Table):
                    stream.write(table_text(exhibit))
            stream.write("\nA short race favours fast starters; small differences are luck.\n")
        for name, path in write_outputs(report, options.outputs, output.out).items():
            stream.write(f"{name}: {path}\n")
        stream.flush()
    return report.exit_code


def _race(options: Options, steps: int, stream: TextIO, *, deadline: float) -> tuple[TargetResult, bool]:
    import torch

    from nncheck.lab.snapshot import seed_everything
    from nncheck.target import use_target
    from nncheck.target.loading import isolated

    (job,) = options.jobs
    device = None if options.device == "auto" else torch.device(options.device)
    raced: list[tuple[TargetResult, bool]] = []

    def use(found: tuple[Found, ...]) -> None:
        if len(found) > 1:
            stream.write(f"  raced is the first of {len(found)} optimizers: {clean(found[0].label)}\n")
        with silenced():  # the race keeps the time by itself
            raced.append(_run(job.target, found[0], options, steps, stream, device=device, deadline=deadline))

    with isolated():
        seed_everything(options.seed)
        try:
            with alarm(deadline):
                use_target(
                    job.target, use, capture=options.capture if job.arguments is None else True,
                    arguments=job.arguments or (), cpu=options.device == "cpu",
                )  # fmt: skip
        except OutOfTime:
            raise TargetError(f"the time budget of {options.budget:g} s ran out while the target was loaded") from None
    return raced[0]


def _run(
    target: str,
    found: Found,
    options: Options,
    steps: int,
    stream: TextIO,
    *,
    device: torch.device | None,
    deadline: float,
) -> tuple[TargetResult, bool]:
    import torch

    from nncheck.lab.sandbox import Sandbox
    from nncheck.race import Lane, judge, run_race
    from nncheck.runner import describe_optimizer, loss_name
    from nncheck.target.assemble import assemble

    def told(lane: Lane) -> None:
        stream.write(f"  {clean(lane.label)}: {f'{lane.end:.4g}' if math.isfinite(lane.end) else 'diverged'}\n")
        stream.flush()

    begun = time.monotonic()
    with alarm(deadline):
        setup = assemble(
            found.recipe, seed=options.seed, device=device, origins=found.origins, names=found.names, notes=found.notes
        )
    for line in setup.bound:
        stream.write(f"  {clean(line)}\n")
    first = next(setup.model.parameters(), None)
    where = device or (first.device if first is not None else torch.device("cpu"))
    sandbox = Sandbox(setup, seed=options.seed, device=where, deadline=deadline)
    with alarm(deadline):
        raced = run_race(sandbox, steps=steps, told=told)
    verdict = judge(raced)
    seconds = time.monotonic() - begun
    meter = sandbox.meter
    check = CheckResult(id="race", stage=Stage.LEARNING, verdict=verdict, seconds=seconds, doc=DOC)
    result = TargetResult(
        target=target, model=type(setup.model).__name__,
        parameters=sum(p.numel() for p in setup.model.parameters() if not torch.nn.parameter.is_lazy(p)),
        loss=loss_name(setup), optimizer=describe_optimizer(setup), bound=setup.bound, notes=setup.notes,
        checks=(check,), findings=(), seconds=seconds,
        cost=Cost(
            seconds=seconds, train_steps=meter.train_steps, forward=meter.forward, backward=meter.backward,
            by_probe=dict(meter.by_probe),
        ),
    )  # fmt: skip
    return result, raced.interrupted


def table_text(table: Table) -> str:
    """A table in columns, for a terminal."""
    rows: Sequence[tuple[str, ...]] = (table.columns, *table.rows)
    widths = [max(len(clean(row[i])) for row in rows) for i in range(len(table.columns))]
    lines = []
    for row in rows:
        cells = (clean(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return f"{clean(table.title)}\n" + "\n".join(lines) + "\n"
