"""Notes what a target's run reads, from within its process: files, folders, modules, the environment; and what cannot be noted.

Python tells an audit hook of every file it opens or lists, of connections and of other programs. It does not tell of a mere look
(`os.path.exists`) nor of the environment, so those are wrapped. What compiled code reads by itself is seen by nobody: where any
is loaded that is not known to leave files to Python, the run cannot be believed again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from nncheck.gate.asking import NO_FILES, absolute, asker_beyond, asks, looks_by_itself, own_attribute
from nncheck.gate.inputs import (
    Inputs,
    Unreadable,
    candidates,
    file_digest,
    folder_digest,
    glance_at,
    look,
    variable_digest,
)
from nncheck.observe.source import is_ours, is_users

# Compiled packages that open files through Python only, as far as a training set-up uses them (their sources were looked at:
# pandas and PIL open a path with `open` before they parse it, NumPy and SciPy too; scikit-learn's and matplotlib's read none).
READ_THROUGH_PYTHON = frozenset({
    "torch", "functorch", "numpy", "scipy", "sklearn", "pandas", "PIL", "matplotlib", "kiwisolver", "contourpy", "yaml", "_yaml",
    "regex", "charset_normalizer", "markupsafe", "psutil", "skimage", "pywt", "statsmodels", "fontTools", "gmpy2", "xxhash",
    "pydantic_core", "rpds", "wrapt", "multidict", "yarl", "frozenlist", "propcache", "aiohttp", "msgpack", "ujson", "orjson",
})  # fmt: skip

# What is read in all is hashed again before a result is believed: above this it takes longer than a run.
MAX_BYTES = 1 << 30
MAX_FILES = 20_000

_OF_THE_SYSTEM = ("/lib", "/usr/lib", "/usr/local/lib", "/opt/")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn")
JOURNAL = "NNCHECK_READ_BY_OTHERS"
"""The variable by which a process of ours that runs the target once more knows where to note what it reads."""


class Recorder:
    """`environment` is what the variables were before anything was changed; `journals` a folder for what copies have read."""

    def __init__(self, environment: dict[str, str], journals: Path) -> None:
        self.inputs = Inputs()
        self.why_not: str | None = None
        self._environment = environment
        self._journal = journals / "0"
        self._alone = os.getpid()
        self._busy = threading.local()
        self._glances: dict[str, Any] = {}
        self._own: set[str] = set()
        self._scratch: list[str] = [str(journals)]
        self._bytes = 0
        self._names: set[str] = set()

    @classmethod
    def follow(cls) -> None:
        """In a process that runs the target once more: note for the one that began it, if that one notes."""
        journal = os.environ.get(JOURNAL)
        if journal is not None:
            recorder = cls(dict(os.environ), Path(journal).parent)
            recorder.watch_environment()
            recorder.watch_files(Path(journal).name)
            recorder._alone = 0

    def watch_environment(self) -> None:
        """Note every variable that is read, from now on."""
        recorder = self

        class Noted(os._Environ[Any]):
            def __getitem__(self, key: Any) -> Any:
                recorder._variable(key)
                return super().__getitem__(key)

            def __iter__(self) -> Iterator[Any]:
                recorder._variable("*")
                return super().__iter__()

        os.environ.__class__ = Noted
        if hasattr(os, "environb"):
            os.environb.__class__ = Noted

    def watch_files(self, name: str) -> None:
        """Note every file, folder and module, from now on. name: of the journal."""
        self._journal, self._alone = self._journal.parent / name, os.getpid()
        os.environ[JOURNAL] = str(self._journal)
        sys.addaudithook(self._audit)
        for name in ("stat", "lstat", "access", "readlink"):
            setattr(os, name, self._looking(getattr(os, name)))
        torch = sys.modules.get("torch")
        if torch is not None:  # these two map a file without Python's knowledge
            for owner in (torch, torch.UntypedStorage):
                setattr(owner, "from_file", staticmethod(self._reading(owner.from_file)))  # noqa: B010

    def cannot(self, why: str) -> None:
        """This run is not to be believed again."""
        if self.why_not is None:
            self.why_not = why
            self._tell_others(("why", why))

    def finish(self) -> tuple[dict[str, Any] | None, str]:
        """What was read; or None, and why the run cannot be believed again."""
        self._busy.now = True
        try:
            self._read_journal()
            self._look_again()
            self._modules()
        except Unreadable as error:
            self.cannot(str(error))
        except Exception as error:  # noqa: BLE001  # what lies among the modules may be anything; the results stay what they are
            self.cannot(f"what it has read could not be put together ({type(error).__name__}: {error})")
        if self.why_not is None and (self._bytes > MAX_BYTES or len(self.inputs.files) > MAX_FILES):
            self.cannot(f"it reads more than {MAX_BYTES >> 20} MB or {MAX_FILES} files")
        return (None, self.why_not) if self.why_not is not None else (self.inputs.to_dict(), "")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _HEARD or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            _HEARD[event](self, event, arguments)
        except Unreadable as error:
            self.cannot(str(error))
        finally:
            self._busy.now = False

    def _opened(self, _: str, arguments: tuple[Any, ...]) -> None:
        path, mode, flags = (*arguments, None, None, None)[:3]
        name = absolute(path)
        if name is None or name in self.inputs.files or name in self._own or self._aside(name):
            return
        flags = flags if isinstance(flags, int) else 0
        if flags & os.O_EXCL or (isinstance(mode, str) and "x" in mode):
            return
        if flags & os.O_TRUNC or (isinstance(mode, str) and "w" in mode):  # what was in it does not matter
            self._own.add(name)
            return
        try:
            self._file(importlib.util.source_from_cache(name) if name.endswith(".pyc") else name)
        except ValueError:  # compiled without its source
            self._file(name)

    def _file(self, name: str) -> None:
        if name in self.inputs.files:
            return
        if not is_users(name):
            self._glances.setdefault(name, None)
            return
        glance = glance_at(name)
        digest = file_digest(name)
        self.inputs.files[name], self._glances[name] = digest, glance
        self._bytes += 0 if glance is None else glance[0]
        self._tell_others(("file", name, digest, glance))

    def _listed(self, _: str, arguments: tuple[Any, ...]) -> None:
        name = absolute("." if not arguments or arguments[0] is None else arguments[0])
        if name is None or name in self.inputs.folders or self._aside(name) or not is_users(os.path.join(name, "x")):
            return
        asker = asker_beyond(())
        if asker is None or looks_by_itself(asker, sources=False):  # which modules there are is noted by their names
            return
        self.inputs.folders[name] = folder_digest(name)
        self._tell_others(("folder", name, self.inputs.folders[name]))

    def _imported(self, _: str, arguments: tuple[Any, ...]) -> None:
        self._names.add(str(arguments[0]))
        self._tell_others(("module", str(arguments[0])))

    def _connected(self, event: str, arguments: tuple[Any, ...]) -> None:
        address = arguments[1] if event in ("socket.connect", "socket.sendto") and len(arguments) > 1 else None
        if isinstance(address, (str, bytes)):  # between processes of this machine
            if not os.fsdecode(address).startswith((os.path.join(tempfile.gettempdir(), "pymp-"), "\0")):
                self.cannot(f"it asks another program, by {os.fsdecode(address)}")
            return
        self.cannot("it asks the network")

    def _started(self, _: str, arguments: tuple[Any, ...]) -> None:
        frame = asker_beyond(("subprocess", "os", "popen_fork", "posix"))
        file = frame.f_code.co_filename if frame is not None else ""
        if (
            is_ours(file)
            or Path(file).parts[-2:] == ("ctypes", "util.py")
            or Path(file).name in ("platform.py", "uuid.py")
        ):
            return
        program = arguments[0] if arguments else ""
        self.cannot(f"it runs another program, {os.path.basename(os.fsdecode(program)) if program else 'a shell'}")

    def _library(self, _: str, arguments: tuple[Any, ...]) -> None:
        frame = asker_beyond(("ctypes",))
        file = frame.f_code.co_filename if frame is not None else ""
        name = os.fsdecode(arguments[0]) if arguments and isinstance(arguments[0], (str, bytes)) else ""
        if is_users(file) or (
            os.sep in name and is_users(os.path.abspath(name)) and not name.startswith(_OF_THE_SYSTEM)
        ):
            self.cannot(f"it calls compiled code by ctypes ({os.path.basename(file)}), and what that reads is not seen")

    def _database(self, _: str, arguments: tuple[Any, ...]) -> None:
        name = absolute(arguments[0])
        if name is not None and os.fsdecode(arguments[0]) != ":memory:":
            self._file(name)

    def _made(self, _: str, arguments: tuple[Any, ...]) -> None:
        self._scratch.append(os.path.abspath(os.fsdecode(arguments[0])))
        self._tell_others(("scratch", self._scratch[-1]))

    def _host(self, _: str, __: tuple[Any, ...]) -> None:
        frame = asker_beyond(("socket", "platform"))
        if frame is not None and is_users(frame.f_code.co_filename):
            self.cannot("it asks for the name of the machine")

    def _looking(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def looked(path: Any, *args: Any, **kwargs: Any) -> Any:
            if not getattr(self._busy, "now", False) and kwargs.get("dir_fd") is None:
                self._busy.now = True
                try:
                    self._look(path)
                except Unreadable as error:
                    self.cannot(str(error))
                finally:
                    self._busy.now = False
            return real(path, *args, **kwargs)

        return looked

    def _reading(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def read(*args: Any, **kwargs: Any) -> Any:
            self._audit("open", (args[0] if args else kwargs.get("filename"), "r", 0))
            return real(*args, **kwargs)

        return read

    def _look(self, path: Any) -> None:
        name = absolute(path)
        if name is None or name in self._own or name in self.inputs.stats or self._aside(name) or not is_users(name):
            return
        asker, when = asks(sys._getframe(2))
        if asker is None or looks_by_itself(asker):
            return
        if not when or os.path.isdir(name):
            self._file(name)
            return
        self.inputs.stats[name] = look(name)
        self._tell_others(("stat", name, self.inputs.stats[name]))

    def _variable(self, key: Any) -> None:
        if getattr(self._busy, "now", False) or not isinstance(key, (str, bytes)):
            return
        self._busy.now = True
        try:
            name = os.fsdecode(key)
            if name == JOURNAL or name in self.inputs.variables or "*" in self.inputs.variables:
                return
            frame = asker_beyond(("os", "_collections_abc", "<frozen os>", "<frozen _collections_abc>"))
            file = frame.f_code.co_filename if frame is not None else ""
            if is_ours(file):
                return
            if f"{os.sep}tqdm{os.sep}" in file:  # it goes through all of them for those that begin so
                name = "TQDM_*"
            self.inputs.variables[name] = variable_digest(self._environment, name)
            self._tell_others(("variable", name))
        finally:
            self._busy.now = False

    def _aside(self, name: str) -> bool:
        """Whether a file is no input: a device, or a scratch file that the run made."""
        return name.startswith(NO_FILES) or any(name == s or name.startswith(s + os.sep) for s in self._scratch)

    def _tell_others(self, note: tuple[Any, ...]) -> None:
        """In a copy of the process, such as a loader's worker: what is noted is told by a file to the one that began."""
        if os.getpid() == self._alone:
            return
        line = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(line, json.dumps(note).encode() + b"\n")
        finally:
            os.close(line)

    def _read_journal(self) -> None:
        if not self._journal.exists():
            return
        for line in self._journal.read_text(encoding="utf-8").splitlines():
            match json.loads(line):
                case ["file", name, digest, glance] if self.inputs.files.setdefault(name, digest) == digest:
                    self._glances.setdefault(name, glance)
                case ["file", name, *_]:
                    self.cannot(f"{name} changed while it was read")
                case ["folder", name, digest]:
                    self.inputs.folders.setdefault(name, digest)
                case ["stat", name, seen]:
                    self.inputs.stats.setdefault(name, seen)
                case ["variable", name]:
                    self.inputs.variables.setdefault(name, variable_digest(self._environment, name))
                case ["module", name]:
                    self._names.add(name)
                case ["why", why]:
                    self.cannot(why)

    def _look_again(self) -> None:
        """A file that is another now was perhaps another when it was read."""
        for name, digest in self.inputs.files.items():
            if name in self._own or digest == "/":
                continue
            now = glance_at(name)
            if digest and list(now or ()) != list(self._glances.get(name) or ()):
                self.cannot(f"{name} changed while it was read")

    def _modules(self) -> None:
        """The sources of every module, the compiled ones judged, and what else could have been imported under their names."""
        for name, module in list(sys.modules.items()):
            file = own_attribute(module, "__file__")
            if not isinstance(file, str) or is_ours(file):
                continue
            if file.endswith(tuple(EXTENSION_SUFFIXES)):
                self._compiled(name, file)
            self._file(file)
        for file in [
            file for file, glance in self._glances.items() if glance is None and file not in self.inputs.files
        ]:
            if not is_ours(file) and (seen := glance_at(file)) is not None and os.path.isfile(file):
                self.inputs.libraries[file] = (seen, file_digest(file))
        if "multiprocessing.popen_spawn_posix" in sys.modules or "multiprocessing.popen_forkserver" in sys.modules:
            self.cannot("it starts processes that are no copies of its own, and what those read is not seen")
        roots = {os.path.abspath(entry) for entry in sys.path if is_users(os.path.join(entry, "x"))}
        tails = frozenset(name.rpartition(".")[2] for name in self._names)
        self.inputs.names = sorted(tails)
        for module in list(sys.modules.values()):
            paths = own_attribute(module, "__path__") or ()
            roots |= {os.path.abspath(p) for p in paths if isinstance(p, str) and is_users(os.path.join(p, "x"))}
        for root in sorted(roots):
            self.inputs.modules[root] = candidates(root, tails)

    def _compiled(self, name: str, file: str) -> None:
        if is_users(file):
            self.cannot(f"{file} is compiled, and what it reads is not seen")
            return
        parts = Path(file).parts
        for mark in ("lib-dynload", "site-packages", "dist-packages"):
            if mark in parts:
                package = parts[len(parts) - parts[::-1].index(mark)].partition(".")[0]
                if mark != "lib-dynload" and package not in READ_THROUGH_PYTHON and not package.endswith("__mypyc"):
                    self.cannot(f"{package} is compiled and may read files unseen")
                return
        if name.partition(".")[0] not in sys.stdlib_module_names | READ_THROUGH_PYTHON:
            self.cannot(f"{name} is compiled and may read files unseen")


_HEARD: dict[str, Callable[[Recorder, str, tuple[Any, ...]], None]] = {
    "open": Recorder._opened,
    "os.listdir": Recorder._listed,
    "os.scandir": Recorder._listed,
    "import": Recorder._imported,
    "sqlite3.connect": Recorder._database,
    "tempfile.mkstemp": Recorder._made,
    "tempfile.mkdtemp": Recorder._made,
    "ctypes.dlopen": Recorder._library,
    "socket.gethostname": Recorder._host,
    **dict.fromkeys(_NETWORK, Recorder._connected),
    **dict.fromkeys(_PROGRAMS, Recorder._started),
}
