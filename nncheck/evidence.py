"""Evidence on demand: each probe runs once, and its value or its failure is kept."""

from __future__ import annotations

from typing import Any, TypeVar

from nncheck.lab.sandbox import Sandbox
from nncheck.registry import needs_of, probe_of

T = TypeVar("T")


class Evidence:
    """What has been measured of one target so far."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._known: dict[type, Any] = {Sandbox: sandbox}
        self._failures: dict[type, Exception] = {}

    def get(self, kind: type[T]) -> T:
        """The evidence of type `kind`; runs its probe, and the probes that one needs, the first time.

        Raises what the probe raised, every time: `CannotMeasure` if it does not apply, the user's or our own error otherwise.
        """
        if kind in self._failures:
            raise self._failures[kind]
        if kind not in self._known:
            probe = probe_of(kind)
            try:
                # What a probe needs is measured before its own clock starts, so that cost lands where it arose.
                needed: list[Any] = [self.get(need) for need in needs_of(probe)]
                with self._sandbox.meter.charge(probe.__name__):
                    try:
                        self._known[kind] = probe(*needed)
                    finally:
                        # Even looking may change something: a spectral norm iterates when its weight is read.
                        self._sandbox.put_back()
            except Exception as error:
                self._failures[kind] = error
                raise
        value: T = self._known[kind]
        return value
