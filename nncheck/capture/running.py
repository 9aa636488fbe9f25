"""A script run as `__main__`, and what is said of one that came to its end before a step."""

from __future__ import annotations

import builtins
import runpy
import sys
from pathlib import Path
from types import ModuleType

from nncheck.capture.endings import Containment
from nncheck.capture.notebook import run_cells
from nncheck.capture.script import Script
from nncheck.errors import TargetError
from nncheck.observe.source import place_at, shown, user_frames, words_of
from nncheck.target.loading import Target
from nncheck.verdict import Place

# What a launcher of distributed training sets; one process alone is rank 0 of 1.
_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_ALONE = "RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 MASTER_ADDR=localhost MASTER_PORT=29500"


def execute(target: Target, arguments: tuple[str, ...]) -> None:
    """Run a script, a module or a notebook as Python would: its folder first on the import path, the folder the user's."""
    path = target.path
    if target.module is not None and path.name != "__init__.py":
        sys.argv[:] = [str(path), *arguments]
        sys.path.insert(0, "")
        runpy.run_module(target.module, run_name="__main__", alter_sys=True)
        return
    sys.argv[:] = [target.text, *arguments]
    sys.path.insert(0, str(path.parent))
    module, before = ModuleType("__main__"), sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        if path.suffix == ".ipynb":
            run_cells(path, module.__dict__)
        else:
            module.__dict__.update(__file__=str(path), __cached__=None, __builtins__=builtins)
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    finally:
        sys.modules["__main__"] = before


def never_stepped(script: Script, failure: BaseException | None, contained: Containment) -> TargetError:
    """Why a script was never seen to step an optimizer."""
    file, record = shown(str(script.path)), script.record
    if contained.late is not None:
        return TargetError(
            f"{file} had taken no optimizer step when the time of --budget was up; it was here",
            places=contained.late,
            help="give it arguments with which it begins sooner, after --, or more time with --budget",
        )
    if contained.in_child:
        started = tuple(dict.fromkeys(record.processes))[:3]
        return TargetError(
            f"{file} takes its steps in child processes that it starts: they are not followed",
            places=(*started, *contained.in_child),
            help="if it can train in a single process, give the arguments for that after --; or write the set-up down: "
            f"nncheck init {file}",
        )
    if contained.program is not None:
        command, places = contained.program
        return TargetError(
            f"{file} leaves its training to another program, which was not started: {command}",
            places=places,
            help="name the script that trains: nncheck run SCRIPT.py -- ITS ARGUMENTS",
        )
    if contained.exits is not None:
        call, places = contained.exits
        return TargetError(f"{file} called {call} before its first optimizer step", places=places)
    if isinstance(failure, SystemExit) and isinstance(failure.code, int) and failure.__context__ is not None:
        caught = failure.__context__  # a library told of it, and ended the script
        if isinstance(caught, Exception) and user_frames(caught):
            return _failed(file, script.path, caught)
    if isinstance(failure, SystemExit):
        code = "" if failure.code is None else repr(failure.code)
        return TargetError(
            f"{file} called exit({code}) before its first optimizer step",
            places=user_frames(failure),
            help=f"give its own arguments after --: nncheck run {file} -- ...",
        )
    if isinstance(failure, TargetError):
        return failure
    if failure is not None:
        return _failed(file, script.path, failure)
    if record.processes:
        return TargetError(
            f"{file} ran to its end without a step; what its child processes do is not followed",
            places=tuple(dict.fromkeys(record.processes))[:3],
            help="name a file that trains in one process, or write the set-up down: nncheck init " + file,
        )
    if record.losses:
        where = record.backward[0]
        return TargetError(
            f"{file} ran to its end and called backward, but stepped no optimizer",
            places=(place_at("backward", where.frame.f_code.co_filename, where.line),),
            help="after backward() call the step() of a torch optimizer that holds the model's parameters",
        )
    return TargetError(
        f"{file} ran to its end and never called backward",
        help="nncheck stops a script at the first step of a torch optimizer; give the arguments that make it train after --",
    )


def _failed(file: str, path: Path, failure: BaseException) -> TargetError:
    places, words = user_frames(failure), words_of(failure)
    help = ""
    if isinstance(failure, SyntaxError) and failure.filename and failure.lineno:
        where = place_at("module", failure.filename, failure.lineno)
        return TargetError(f"{shown(failure.filename)} is not valid Python: {failure.msg}", places=_with(places, where))
    if isinstance(failure, ModuleNotFoundError) and failure.name:
        if not (path.parent / f"{failure.name.partition('.')[0]}.py").is_file():
            help = f"install it for {sys.executable}, which runs nncheck"
        return TargetError(
            f"{file} needs the module {failure.name!r}, which is not installed here", places=places, help=help
        )
    if isinstance(failure, FileNotFoundError) and isinstance(failure.filename, str):
        beside = path.parent / failure.filename
        if beside.exists() and path.parent.resolve() != Path.cwd():
            help = (
                f"it lies beside the script: start nncheck in {shown(str(path.parent))}, as the script itself has to be"
            )
    if any(name in words for name in _LAUNCHER):
        help = f"it is made for a launcher; as the only process of its group: {_ALONE} nncheck run {file}"
    return TargetError(
        f"{file} stopped before its first optimizer step: {type(failure).__name__}: {words}", places=places, help=help
    )


def _with(places: tuple[Place, ...], last: Place) -> tuple[Place, ...]:
    return places if last in places else (*places, last)
