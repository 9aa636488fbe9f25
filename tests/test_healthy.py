"""Sound set-ups, entirely quiet: one false alarm costs more than ten finds earn."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import pytest

import nncheck
import tests.healthy


def _setups() -> dict[str, Callable[[], nncheck.Recipe]]:
    found = {}
    for info in pkgutil.iter_modules(tests.healthy.__path__):
        module = importlib.import_module(f"tests.healthy.{info.name}")
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
            if own and inspect.signature(value).return_annotation is nncheck.Recipe:
                found[f"{info.name}.{name}"] = value
    return found


SETUPS = _setups()


@pytest.mark.parametrize("name", SETUPS)
def test_quiet(name: str) -> None:
    report = nncheck.check(SETUPS[name](), seed=0)
    target = report.targets[0]
    said = [f"{r.id}: {r.status} {r.verdict.measured}" for r in target.checks if r.status in ("warn", "fail", "error")]
    assert not said, said
    assert target.problem is None, target.problem
    assert target.verdict == "pass"
