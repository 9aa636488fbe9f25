"""In the copy in which a script goes on: tells the witnesses what it does, keeps its epochs short, and ends it in time."""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from nncheck.capture.finding import find_model, find_schedulers, find_stepping, held_by
from nncheck.capture.frameworks import keep_short
from nncheck.capture.iteration import iterations
from nncheck.capture.witnesses import EACH, KINDS, Course, Witness
from nncheck.observe.source import words_of

if TYPE_CHECKING:
    from nncheck.capture.script import Script
    from nncheck.capture.taps import Tap

# An epoch is ended after so many batches, or as many as make four steps; a validation is seen whole up to a length.
EPOCH_BATCHES, EPOCH_STEPS = 8, 4
VALIDATION_BATCHES = 50
# So many epochs show what is done once in each. A loop without them, that asks for its batches by itself, is followed for so many
# steps; and, as long as it takes no longer than the checks, to the validation that it makes every few hundred.
EPOCHS, STEPS, MOST_STEPS, QUICK_SECONDS = 3, 32, 600, 5.0

_leave = os._exit


class Watcher:
    """In the copy: tells the witnesses what the script does, keeps its epochs short, and ends the process when enough is seen."""

    def __init__(self, script: Script, writer: int, seconds: float) -> None:
        self._writer = writer
        os._exit = lambda status: self.finish()  # a script that ends its process has been seen up to there
        record = script.record
        model, _ = find_model(record, record.optimizer)
        library = keep_short(script, self)
        here = next(iter(iterations(record)), None) if library is None else None
        loader = library.loader if library is not None else None if here is None else here.loader
        self.course = Course(
            model=model if model is not None else nn.Module(),
            optimizer=record.optimizer,
            loader=loader,
            schedulers=find_schedulers(record.optimizer),
            roots=list(record.roots),
            made=dict(record.made),
            early=script.early.schedules,
            not_its_own=script.not_its_own,
            watcher=self,
            library=library,
        )
        self._begun = time.monotonic()
        # One that a loop's `for` goes through ends an epoch early; one that is asked by `next()` may never end.
        self._endless = loader is None or (here is not None and not here.by_for)
        self._long = self.length_of(library.micro if library is not None else 1 if here is None else here.micro)
        self._asked: dict[int, Tap] = {}
        self._end = time.monotonic() + seconds
        self._witnesses: list[Witness] = [kind(self.course) for kind in KINDS]
        self._courses: list[Course] = [self.course, *self._each_by_itself(script)]
        self._of: dict[Witness, int | None] = dict.fromkeys(self._witnesses)
        for number, course in enumerate(self._courses[1:]):
            self._of |= {kind(course): number for kind in EACH}
        self._witnesses = list(self._of)
        # Frames of the first iteration would keep its tensors alive.
        record.step = record.backward = ()
        record.called = None
        record.requests.clear()
        del here
        self._each("begin")

    def _each_by_itself(self, script: Script) -> Iterator[Course]:
        """A course for each of several optimizers."""
        optimizers = find_stepping(script.record)
        for number, optimizer in enumerate(optimizers if len(optimizers) > 1 else ()):
            model = find_model(script.record, optimizer)[0]
            yield dataclasses.replace(
                self.course,
                model=model if model is not None else nn.Module(),
                optimizer=optimizer,
                schedulers=find_schedulers(optimizer),
                held=held_by(optimizer),
                elsewhere=frozenset().union(*(held_by(other) for other in optimizers if other is not optimizer)),
                first=number == 0,
            )

    def begun(self, loader: Any) -> None:
        """A loader's iterator is made."""
        self.over(loader)
        if loader is self.course.loader and not self.course.validating:
            for course in self._courses:
                course.epochs += 1
            if self.course.epochs > EPOCHS and not self._endless:
                self.finish()
        self._each("loader_begun", loader)

    def next(self, tap: Tap, iterator: Any) -> Any:
        """The next batch of a loader, or StopIteration before its time."""
        self._look()
        loader = tap.loader
        most = self._long if loader is self.course.loader else VALIDATION_BATCHES
        if tap.over:
            raise StopIteration
        if tap.onward >= most and not (self._endless and loader is self.course.loader):
            self.course.cut.add(id(loader))
            self._ended(tap)
            raise StopIteration
        try:
            batch = next(iterator)
        except StopIteration:
            self._ended(tap)
            raise
        tap.onward += 1
        self._asked[id(loader)] = tap
        self._each("batch", loader, batch)
        return batch

    def over(self, loader: Any) -> None:
        """A library is done with a loader, and has not asked it for the batch after the last."""
        tap = self._asked.get(id(loader))
        if self.course.library is None or tap is None or tap.over:
            return
        self._ended(tap)

    def _ended(self, tap: Tap) -> None:
        tap.over = True
        self._each("loader_over", tap.loader)

    @staticmethod
    def length_of(micro: int) -> int:
        """How many batches of an epoch are seen, if so many make a step."""
        return max(EPOCH_BATCHES, EPOCH_STEPS * max(1, micro))

    def entering(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """The script calls a module itself."""
        for course in self._courses:
            course.training = torch.is_grad_enabled()
        self._each("call", module, args, kwargs)

    def leaving(self, module: nn.Module, output: Any) -> None:
        """That call has returned."""
        self._each("returned", module, output)

    def lossy(self, loss: Tensor) -> None:
        """`backward` is about to be called."""
        for course in self._courses:
            course.backwards += 1
        self._each("backward", loss)

    def stepping(self, optimizer: Any) -> None:
        """An optimizer is about to step."""
        self._look()
        for course in self._courses:
            same = optimizer is course.optimizer or type(optimizer) is type(course.optimizer)
            course.steps += same and course.its(optimizer)
        self._each("step", optimizer)

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has stepped."""
        self._each("stepped", optimizer)
        # Between two steps nothing is half done.
        late = time.monotonic() - self._begun > QUICK_SECONDS or self.course.steps > MOST_STEPS
        if self.course.steps > STEPS and late and (self._endless or self.course.epochs > 1):
            self.finish()

    def alone(self, witness: Witness, writer: int) -> None:
        """In a copy of this copy: from here on one witness is told, and its evidence goes to `writer`."""
        os.close(self._writer)
        self._witnesses, self._writer = [witness], writer
        self._of = {witness: None}

    def finish(self) -> NoReturn:
        """Enough is seen, or the script is over: send the evidence and end the copy."""
        told: dict[tuple[str, int | None], Any] = {}
        for witness in self._witnesses:
            try:
                evidence = witness.evidence()
                pickle.dumps(evidence)
            except Exception as error:  # noqa: BLE001  # one that fails leaves the others theirs
                print(type(witness).__name__, words_of(error), file=sys.stderr)
                continue
            told[type(evidence).__name__, self._of[witness]] = evidence
        answer = pickle.dumps(told)
        while answer:
            answer = answer[os.write(self._writer, answer) :]
        _leave(0)

    def _look(self) -> None:
        if time.monotonic() > self._end - 1:
            self.finish()

    def _each(self, event: str, *values: Any) -> None:
        for witness in list(self._witnesses):
            try:
                getattr(witness, event)(*values)
            except Exception:  # noqa: BLE001  # a measurement that fails is not made; the script goes on
                self._witnesses.remove(witness)
