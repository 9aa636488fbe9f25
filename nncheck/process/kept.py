"""`--cache`: which question a run of a target answers, and its answer, looked up before and kept after."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from nncheck.gate.cache import Cache, Hit
from nncheck.process.heard import Heard
from nncheck.process.session import Job, Options


class Kept:
    """The answers of earlier runs. `journals`: a folder, until the `with` block ends, for what copies of a process have read."""

    def __init__(self, options: Options, *, threads: int | None) -> None:
        self._options = options
        self._created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._threads = threads
        self._cache = Cache(os.environ)
        self._folder = tempfile.TemporaryDirectory(prefix="nncheck-")
        self.journals = Path(self._folder.name)

    def __enter__(self) -> Kept:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def find(self, index: int) -> Hit | str:
        """The answer, or why there is none: what has changed; "" if the question is new."""
        return self._cache.find(self._question(self._options.jobs[index]))

    def keep(self, index: int, heard: Heard, inputs: Mapping[str, Any] | None, why: str) -> str:
        """Keep what was told of a target; why that cannot be done, if it cannot."""
        if inputs is None:
            return why
        return self._cache.keep(
            self._question(self._options.jobs[index]), heard.results, environment=heard.surroundings, inputs=inputs,
            created=self._created,
        )  # fmt: skip

    @contextmanager
    def pictures(self) -> Iterator[None]:
        """Inside, what was drawn for the last run of these targets is not drawn again: to draw takes longer than to look it up."""
        from nncheck.report import figures

        name = "pictures of " + ", ".join(job.target for job in self._options.jobs)
        with figures.remembering(self._cache.recall(name)) as used:
            yield
        if used:
            self._cache.remember(name, used)

    def _question(self, job: Job) -> dict[str, Any]:
        options = self._options
        return {
            "target": job.target,
            "folder": os.getcwd(),
            "arguments": job.arguments,
            "parts": dict(sorted(options.flags.items())),
            "capture": options.capture,
            "checks": sorted(job.selected),
            "seed": options.seed,
            "device": options.device,
            "budget": options.budget,
            "threads": self._threads,
            "checklist": dict(sorted(job.config.checklist.items())),
        }
