"""A training script run as itself until its first optimizer step, and ended there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nncheck.capture.byhand import updated_by_hand
from nncheck.capture.early import Early
from nncheck.capture.frameworks import Library, library_at_work
from nncheck.capture.onward import Onward, go_on, taken_over
from nncheck.capture.overlay import Overlay
from nncheck.capture.record import CALL, Begun, Loss, Record, Request, standing
from nncheck.capture.stepless import ended_without_a_step
from nncheck.errors import CannotMeasure
from nncheck.lab import batch as batches
from nncheck.lab.snapshot import RandomState
from nncheck.observe.source import calling_place

# What the script's calls mean: "record" everything and do it for real; "replay" its loop, on batches that it is handed; "off"
# while nncheck's own work goes on inside it; "onward" lets it go on for real, watched; "ending" lets its last lines run.
Mode = Literal["record", "replay", "off", "onward", "ending"]


# A round of the loop asks for one batch, or for as many as it accumulates.
MOST_HANDED = 256


class Ended(BaseException):
    """Raised inside the script to end it where it stands; no `except Exception` of the user's holds it up."""


class Script:
    """One script while it runs. `at_step` is called, deep inside it, when its first optimizer is about to step.

    source: the loader at which an iteration begins; handed: the batch it gives next when the loop is replayed; random: the
    generators' states from then on, by the loader's id, if they matter.
    calls: what puts batches into the calls of the model, where there is no loader.
    """

    def __init__(self, path: Path, arguments: tuple[str, ...], at_step: Callable[[Script], None]) -> None:
        self.path, self.arguments = path, arguments
        self.record = Record()
        self.not_its_own = frozenset(sys.modules)
        """Modules that were there before the script."""
        self.early = Early(path=str(path), arguments=arguments)
        self.overlay = Overlay()
        self.mode: Mode = "record"
        self.source: Any = None
        self.handed: Any = None
        self.handed_over = 0
        self.beside: Mapping[int, Any] = {}
        """What every loader of the iteration gave in it, by the loader's id."""
        self.random: Mapping[int, RandomState] = {}
        self.calls: Any = None
        self.onward: Onward | None = None
        """The copy of the process in which the script goes on for real."""
        self.library: Library | None = None
        """The library that runs the loop, if the script does not."""
        self.watcher: Any = None
        """In that copy: told of everything."""
        self.iterating = False
        """Whether a loader's own iterator is being made."""
        self.no_more_losses: Callable[[], None] = lambda: None
        """Takes back what tells `scoring` of loss functions."""
        self._at_step = at_step
        self._outermost: FrameType | None = None
        self._inside: nn.Module | None = None
        self._stopped: BaseException | None = None
        self.reached = False

    def run(self, execute: Callable[[], None]) -> BaseException | None:
        """Let `execute` run the script to its first step; returns what ended it if it never got there.

        Raises what `at_step` raised.
        """
        self._outermost = sys._getframe()
        failure: BaseException | None = None
        try:
            try:
                execute()
            except SystemExit as end:
                if end.code not in (None, 0):
                    raise
                failure = end
            if self.mode == "record" and ended_without_a_step(self.record):
                self._stop()
        except Ended:
            pass
        except BaseException as error:  # noqa: BLE001  # SystemExit, and what a library derives from BaseException
            failure = error
        finally:
            if self.mode == "onward":
                self.watcher.finish()
            self.mode = "off"
        if self._stopped is not None:
            raise self._stopped
        return None if self.reached else failure

    @property
    def inside(self) -> bool:
        """Whether a module is running that the script called itself."""
        return self._inside is not None

    def _stop(self) -> None:
        """The first step is reached: nncheck's work is done here, with all that the script has around it, then it ends."""
        self.reached = True
        self.early.reached()
        if taken_over(self):
            return
        self.onward = go_on(self) if self.record.first is None and not self.record.stepless else None
        if self.mode == "onward":
            return
        self.library = library_at_work(self)
        self.mode = "off"
        self._inside = None
        self.no_more_losses()
        try:
            with torch.enable_grad():
                self._at_step(self)
        except BaseException as error:  # noqa: BLE001  # carried past every handler of the user's
            self._stopped = error
        finally:
            if self.onward is not None:
                self.onward.close()
        self.mode = "ending"
        raise Ended

    # What the hooks tell.
    def asked(self, loader: Any) -> Request:
        """A loader is asked for a batch."""
        record = self.record
        return Request(stack=standing(self._outermost), order=record.next(), loader=loader)

    def given(self, request: Request, batch: Any) -> None:
        """A loader has given a batch."""
        record = self.record
        request.batch, request.after = batch, RandomState()
        last = record.requests.pop(id(request.loader), None)  # the last to be asked stands last
        request.before = None if last is None else last.batch
        record.requests[id(request.loader)] = request
        record.asked.setdefault(id(request.loader), []).append(request.order)
        record.called = None

    def hand_over(self) -> None:
        """A batch is handed to the loop once more. Raises CannotMeasure if it goes on asking and never comes to an end."""
        self.handed_over += 1
        if self.handed_over > MOST_HANDED:
            raise CannotMeasure("the loop asks for batches without end before it comes back")

    def lossy(self, loss: Tensor) -> bool:
        """`backward` is called on a loss; returns whether it is to be done."""
        record = self.record
        if self.mode == "ending":
            raise Ended
        if self.mode == "onward":
            self.watcher.lossy(loss)
        if self.mode != "record":
            return True
        record.losses.append(Loss(value=float(loss.detach().sum()), version=record.version(), order=record.next()))
        record.backward = standing(self._outermost)
        record.at_backward = dict(record.requests), record.called
        if record.optimizer is not None:  # inside the closure of the first step
            record.step = record.backward
            self._stop()
        elif updated_by_hand(record):
            self._stop()
        return True

    def stepping(self, optimizer: Any, *, closure: bool) -> None:
        """An optimizer is about to step. One that is given a closure calls the model and backward inside: it stops at the first."""
        if self.mode == "ending":
            raise Ended
        if self.mode == "onward":
            self.watcher.stepping(optimizer)
        if self.mode != "record":
            return
        record = self.record
        record.optimizer, record.closure = optimizer, closure and not record.newest_losses()
        record.step = standing(self._outermost)
        if not record.closure:
            self._stop()

    def entering(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called; only what the script calls itself is of interest."""
        if self._inside is not None or self.mode in ("off", "replay"):
            return
        if self.mode == "ending":
            raise Ended
        self._inside = module
        if self.mode == "onward":
            self.watcher.entering(module, args, kwargs)
        if self.mode != "record":
            return
        record = self.record
        if not any(module is root for root in record.roots):
            record.roots.append(module)
            self._note(module)
        if torch.is_grad_enabled():  # a validation before the first step has modes of its own
            record.modes |= {m: m.training for m in module.modules()}
        if torch.is_grad_enabled():
            if record.called is None or (record.losses and record.losses[-1].order > record.called.order):
                here = Begun(stack=standing(self._outermost), order=record.next(), random={CALL: RandomState()})
                # The same lines again are another iteration; another line is a second model, or a second loss, of the same one.
                if record.called is None or _lines(here) == _lines(record.called):
                    record.called = here
                    record.calls.append(here.order)
            batches.map_tensors(record.called.taken.data, (args, kwargs))

    def scoring(self, target: Tensor) -> None:
        """A loss function is called by the script itself."""
        if self.mode == "record" and self.record.called is not None and self._inside is None:
            self.record.called.taken.data(target)

    def _note(self, module: nn.Module) -> None:
        record = self.record
        held = {id(tensor) for tensor, _, _ in record.tensors}
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in held and not nn.parameter.is_lazy(tensor):
                record.tensors.append((tensor, tensor.detach().clone(), tensor._version))
                record.attributes.append((tensor, dict(vars(tensor))))

    def leaving(self, module: nn.Module, output: Any = None) -> None:
        """A module returned, or raised."""
        if module is self._inside:
            self._inside = None
            if self.mode == "onward":
                self.watcher.leaving(module, output)

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has stepped."""
        if self.mode == "onward":
            self.watcher.stepped(optimizer)

    def starts_process(self) -> None:
        """The script starts a child process: a step taken there is not seen here."""
        if self.mode == "record":
            self.record.processes.append(calling_place("child process"))


def _lines(begun: Begun) -> list[tuple[str, int]]:
    return [(stood.frame.f_code.co_filename, stood.line) for stood in begun.stack]
