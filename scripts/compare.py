"""torchtest2 and pytest-torch over the same corpus, scored by the same rule as nncheck.

Each is used as its README recommends, on the set-up's own model, first batch, loss and optimizer. What it needs told is told
in its favour: a set-up with a training step is given to it as one function, and a message that it cannot work with a set-up
counts neither as a find nor as an accusation. A find: it fails on the faulty twin in a way in which it does not fail on the
other. Needs the packages of the extra `compare`; adds its rows to tests/corpus/score.json and the table in README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import score
from corpus_runs import Job, Outcome, jobs_of, run_on

TOOLS = {"torchtest2": "compare:torchtest2_says", "pytest-torch": "compare:pytest_torch_says"}
USED = ("nncheck/lab", "nncheck/losses", "nncheck/observe", "nncheck/target")
"""The parts of nncheck that bring a set-up into the form the tools want."""

FORWARD, BACKWARD = 1 / 3, 2 / 3  # of a training step, as nncheck counts them


@dataclass
class Passes:
    """Forward and backward passes of a model, in units of the user's batch."""

    forward: float = 0.0
    backward: float = 0.0

    @property
    def steps(self) -> float:
        return self.forward * FORWARD + self.backward * BACKWARD


@contextlib.contextmanager
def counted(model: Any, batch_size: int) -> Iterator[Passes]:
    """Counts every pass of `model` and of its copies, a smaller batch in proportion."""
    import torch
    from torch.nn.modules import module as hooks

    from nncheck.lab import batch as batches

    passes, depth, share = Passes(), 0, 1.0
    kind = type(model)

    def before(module: Any, inputs: Any, keywords: Any = None) -> None:
        nonlocal depth, share
        if isinstance(module, kind):
            if depth == 0:
                share = min(1.0, batches.size(inputs) / batch_size) if inputs else 1.0
                passes.forward += share
            depth += 1

    def after(module: Any, inputs: Any, output: Any) -> None:
        nonlocal depth
        if isinstance(module, kind):
            depth -= 1

    run_backward = torch.autograd.backward

    def backward(*args: Any, **kwargs: Any) -> Any:
        passes.backward += share
        return run_backward(*args, **kwargs)

    handles = [
        hooks.register_module_forward_pre_hook(before),
        hooks.register_module_forward_hook(after, always_call=True),
    ]
    torch.autograd.backward = backward
    try:
        yield passes
    finally:
        torch.autograd.backward = run_backward
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A set-up in the form in which the tools want it.

    `inputs` as `model(inputs)` is called, `loss(model, inputs, target)`; `plain`: the model can be called on `inputs` alone.
    """

    setup: Any
    batch: Any
    batches: list[Any]
    inputs: Any
    target: Any
    loss: Callable[[Any, Any, Any], Any]
    plain: bool
    size: int

    @property
    def own_loop(self) -> bool:
        """Whether the loss is known from a whole step only, with other optimizers maybe."""
        return self.setup.train_step is not None and self.setup.loss_fn is None and self.setup.training_step is None


def parts(recipe: Any) -> Parts:
    """The live set-up. Raises what the user's code raises."""
    import torch

    from nncheck.lab import batch as batches
    from nncheck.lab.objective import Objective
    from nncheck.lab.sandbox import Sandbox
    from nncheck.target.assemble import assemble

    setup = assemble(recipe, seed=0, device=torch.device("cpu"))
    sandbox = Sandbox(setup, seed=0, device=torch.device("cpu"))
    several = sandbox.feed.take(4)
    batch = several[0]
    inputs, target = batches.split(batch)

    def joined(inputs: Any, target: Any) -> Any:
        if isinstance(batch, Mapping):
            keys = [key for key in batch if key not in inputs]
            return {**inputs, **(target if len(keys) > 1 else dict.fromkeys(keys, target))}
        if isinstance(batch, (list, tuple)):
            head = list(inputs) if len(batch) > 2 else [inputs]
            return [*head, target] if len(batch) > 1 else head
        return inputs

    def loss(model: Any, inputs: Any, target: Any) -> Any:
        return Objective(setup, model)(joined(inputs, target)).loss

    try:
        with torch.no_grad(), sandbox.trial(mode="eval"):
            call(setup.model, inputs)
        plain = True
    except Exception:  # noqa: BLE001  # the model wants more than its inputs: then its step is given instead
        plain = False
    return Parts(
        setup=setup,
        batch=batch,
        batches=several,
        inputs=inputs,
        target=target,
        loss=loss,
        plain=plain,
        size=batches.size(batch),
    )


def call(model: Any, inputs: Any) -> Any:
    """As both tools call a model: a tuple or list by position, a dict by name."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def torchtest2_says(make: Any, job: Job) -> Outcome:
    """`check_model(model, inputs, targets, loss_fn=..., optimizer=...)`."""
    import torchtest2

    begun = time.monotonic()
    p = parts(make())
    setup = p.setup
    options: dict[str, Any] = {"optimizer": None if setup.default_optimizer else setup.optimizer}
    inputs, target = p.inputs, p.target
    if p.own_loop and not p.plain:
        return Outcome(job=job, problem="a loop of its own, and a model that is not called with the batch")
    if p.own_loop:
        target = None  # its minimal call: without a loss
    elif setup.loss_fn is not None and setup.training_step is None and p.plain:
        options["loss_fn"] = setup.loss_fn
    else:  # the loss of the whole step; the model's own answer where it can be asked for one
        options["forward_fn"] = lambda model, inputs, target: p.loss(model, inputs, target)
        options["loss_fn"] = lambda output, *_: output
        if not p.plain:
            options["eval_forward_fn"] = lambda model, inputs: p.loss(model, inputs, p.target)
            options["skip"] = ("batch_independence", "output_varies", "input_dependency", "eval_determinism")
    with counted(setup.model, p.size) as passes:
        report = torchtest2.check_model(setup.model, inputs, target, **options)
    results = [r for r in report if r.status.value in ("FAIL", "WARN")]
    results.sort(key=lambda r: r.status.value != "FAIL")
    return Outcome(
        job=job,
        findings={r.name: r.status.value.lower() for r in results},
        words={r.name: r.message[:200] for r in results},
        steps=passes.steps,
        seconds=time.monotonic() - begun,
    )


def pytest_torch_says(make: Any, job: Job) -> Outcome:
    """The suite's contract, checkpoint and training checks, and a short run of the set-up's own step."""
    import pytest_torch as pt
    import torch

    from nncheck.lab.objective import call_step

    begun = time.monotonic()
    p = parts(make())
    setup, model = p.setup, p.setup.model
    whole = _Whole.of(p)
    subject, inputs = (model, p.inputs) if p.plain else (whole, (p.batch,))
    kind, defaults = type(setup.optimizer), setup.optimizer.defaults

    def same_kind(parameters: Any) -> Any:
        known = kind.__init__.__code__.co_varnames
        return kind(parameters, **{key: value for key, value in defaults.items() if key in known})

    def setup_anew() -> Any:
        fresh = parts(make())
        state["step"] = fresh
        return pt.TrainingSetup(model=fresh.setup.model, optimizers=fresh.setup.optimizer)

    state: dict[str, Any] = {}

    def step(training: Any, batch: Any) -> Any:
        fresh = state["step"]
        if fresh.setup.train_step is not None:
            step = fresh.setup.train_step
            return call_step(step, training.model, batch, training.step_index, parts=fresh.setup)
        for optimizer in training.optimizers.values():
            optimizer.zero_grad()
        inputs, target = _split(batch)
        loss = fresh.loss(training.model, inputs, target)
        loss.backward()
        for optimizer in training.optimizers.values():
            optimizer.step()
        return loss

    def run_briefly() -> None:
        run = pt.run_training(setup_anew, p.batches, step)
        if setup.train_step is None:
            run.assert_healthy()
        else:  # it may accumulate over several batches
            run.assert_finite()
            run.assert_no_skipped_updates(max_skipped=len(run.losses) - 1)

    def identity(output: Any) -> Any:
        return output

    def again() -> Any:
        return parts(make()).setup.model

    frozen = [name for name, q in model.named_parameters() if not q.requires_grad]
    asked: dict[str, Callable[[], Any]] = {
        "inference_contract": lambda: pt.check_inference_contract(subject.eval(), inputs),
        "checkpoint_roundtrip": lambda: pt.assert_checkpoint_roundtrip(again, inputs, model=subject),
        "gradients_finite": lambda: pt.assert_gradients_finite(whole.train(), (p.batch,), identity),
        "all_params_receive_grad": lambda: pt.assert_all_params_receive_grad(whole.train(), (p.batch,), identity),
        "loss_decreases": lambda: pt.assert_loss_decreases(whole, (p.batch,), identity, optimizer=same_kind),
        "overfits_one_batch": lambda: pt.assert_overfits_one_batch(whole, (p.batch,), identity, optimizer=same_kind),
        "optimizer_coverage": lambda: pt.assert_optimizer_coverage(model, setup.optimizer),
        "healthy_run": run_briefly,
    }
    if not p.plain:  # what is called on the inputs alone
        del asked["checkpoint_roundtrip"], asked["inference_contract"]
    if p.own_loop:  # which optimizers there are is its own affair
        del asked["optimizer_coverage"]
        if not p.plain:
            del asked["overfits_one_batch"], asked["loss_decreases"], asked["all_params_receive_grad"]
    if frozen:
        names = [f"model.{name}" for name in frozen]
        asked["frozen"] = lambda: pt.assert_frozen(
            whole, (p.batch,), identity, names, optimizer=lambda _: same_kind(live())
        )

    def live() -> list[Any]:
        return [q for q in whole.parameters() if q.requires_grad]

    findings, words = {}, {}
    state_before = copy.deepcopy(model.state_dict())
    with counted(model, p.size) as passes:
        for name, ask in asked.items():
            score_seed()
            try:
                ask()
            except AssertionError as error:
                findings[name], words[name] = "fail", str(error)[:200]
            except Exception as error:  # noqa: BLE001  # it cannot work with this set-up: no find, no accusation
                words[name] = f"{type(error).__name__}: {error}"[:200]
            model.load_state_dict(state_before)
            torch.set_grad_enabled(True)
    return Outcome(job=job, findings=findings, words=words, steps=passes.steps, seconds=time.monotonic() - begun)


def score_seed() -> None:
    """The same random numbers for every assertion."""
    from corpus_runs import seed_all

    seed_all()


def _split(batch: Any) -> tuple[Any, Any]:
    from nncheck.lab import batch as batches

    return batches.split(batch)


class _Whole:
    """Makes a module of the model and its loss: a batch in, the loss out."""

    @staticmethod
    def of(p: Parts) -> Any:
        from torch import nn

        class Whole(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = p.setup.model

            def forward(self, batch: Any) -> Any:
                return p.loss(self.model, *_split(batch))

        return Whole()


def rate(twins: Any, sounds: Any, outcomes: Mapping[Job, Outcome]) -> dict[str, Any]:
    """One row of the table."""
    faults = [t for t in twins if not t.unseen]
    hits = 0
    for t in faults:
        faulty, clean = (outcomes[Job(name=t.name, variant=v)] for v in ("faulty", "clean"))
        hits += any(status == "fail" and clean.findings.get(id) != "fail" for id, status in faulty.findings.items())
    healthy = [outcomes[Job(name=t.name, variant="clean")] for t in twins]
    healthy += [outcomes[Job(name=s.name, variant="sound")] for s in sounds]
    ran = [o.steps for o in outcomes.values() if not o.problem]
    return {
        "faults": len(faults),
        "hits": hits,
        "healthy": len(healthy),
        "false_fails": sum("fail" in o.findings.values() for o in healthy),
        "could_not_run": sum(bool(o.problem) for o in healthy),
        "steps_median": round(statistics.median(ran), 1) if ran else 0,
        "steps_max": round(max(ran, default=0), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pattern", nargs="?", default="", help="part of a set-up's name or domain")
    parser.add_argument("--tool", choices=TOOLS, action="append", help="only this one")
    parser.add_argument("-v", "--verbose", action="store_true", help="what each said, and where it could not run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for one set-up")
    options = parser.parse_args()
    from tests.corpus import corpus, tuned

    twins, sounds = corpus()
    word = options.pattern
    twins = tuple(t for t in twins if word in f"{t.domain}.{t.name}")
    sounds = tuple(s for s in sounds if word in f"{s.domain}.{s.name}")
    jobs = jobs_of(twins, sounds)
    rows = {}
    for tool in options.tool or TOOLS:
        outcomes: dict[Job, Outcome] = {}
        for outcome in run_on(jobs, TOOLS[tool], workers=options.workers, limit=options.limit, parts=USED):
            outcomes[outcome.job] = outcome
            if options.verbose and tuned(outcome.job.name):
                said = ", ".join(f"{id} {status}" for id, status in outcome.findings.items())
                print(f"{tool} {outcome.job.name} [{outcome.job.variant}]: {said or outcome.problem or 'nothing'}")
        rows[tool] = rate(twins, sounds, outcomes)
        print(tool, json.dumps(rows[tool]), flush=True)
        if not word:
            score.keep({"tools": {tool: rows[tool]}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
