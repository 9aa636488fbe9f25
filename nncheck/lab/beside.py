"""Gradients that are kept beside `.grad`: a library hangs those of single samples, or a float32 sum, on the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


class Beside:
    """What backward passes leave on parameters as attributes of their own.

    gradients: the name of an attribute that holds gradients after a backward pass; "" if there is none. noted: whether a pass was
    seen.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._begun = [(p, dict(vars(p))) for p in parameters]
        self._changed: set[str] = set()
        self.gradients = ""
        self.noted = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Around one backward pass."""
        before = [dict(vars(p)) for p, _ in self._begun]
        yield
        self.noted = True
        for (parameter, _), old in zip(self._begun, before, strict=True):
            for name, value in vars(parameter).items():
                if name in old and old[name] is value:
                    continue
                self._changed.add(name)
                if is_gradient(value, parameter):
                    self.gradients = name

    def clear(self) -> None:
        """Drop what they left, as one drops `.grad`: a pass that is never gone back from is counted by it too."""
        for parameter, begun in self._begun if self._changed else ():
            for name in self._changed & vars(parameter).keys():
                if name in begun:
                    setattr(parameter, name, begun[name])
                else:
                    delattr(parameter, name)


def steps_from_grad(optimizer: Any) -> bool:
    """Whether an optimizer is one of torch's own, which step from `.grad` alone."""
    return type(optimizer).__module__.startswith("torch.optim")


def is_gradient(value: Any, parameter: Tensor) -> bool:
    """Whether a value has the parameter's shape, or is one such for every sample."""
    return isinstance(value, Tensor) and value.shape[value.ndim - parameter.ndim :] == parameter.shape
