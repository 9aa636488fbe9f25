"""What is in force for a run: the command line first, then the configuration of each target, then the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nncheck.config.model import Config, FailOn
from nncheck.config.nearest import FILE, config_for
from nncheck.config.targets import listed
from nncheck.errors import UsageError
from nncheck.registry import select as choose

DEFAULT_FAIL_ON: FailOn = "fail"
DEFAULT_BUDGET = 600.0
DEFAULT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command line says; None: nothing."""

    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    fail_on: FailOn | None = None
    budget: float | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for all targets of a run."""

    fail_on: FailOn
    budget: float
    seed: int


def targets_or_listed(targets: tuple[str, ...]) -> tuple[str, ...]:
    """The targets of the command line, else those of the working directory's configuration. Raises UsageError for none."""
    if targets:
        return targets
    config = config_for(".")
    if config.path is None:
        raise UsageError(
            f"no TARGET is named, and there is no {FILE} here or above; `nncheck run model.py`, or list the targets in "
            f'{FILE}: targets = ["model.py"]'
        )
    if not config.targets:
        raise UsageError(
            f"no TARGET is named, and {config.path} lists none; `nncheck run model.py`, or add there: "
            'targets = ["model.py"]'
        )
    return listed(config)


def selected_for(config: Config, given: Given) -> frozenset[str]:
    """The checks to ask of a target. `--select` and `--ignore` each take the place of the file's own key.

    Raises UsageError for an unknown id on the command line, and if nothing is left.
    """
    select = config.select if given.select is None else given.select
    ignore = config.ignore if given.ignore is None else given.ignore
    try:
        return choose(select, ignore)
    except UsageError as error:
        source = config.sources.get("ignore")
        if given.ignore is None and ignore and source is not None and "no check is left" in str(error):
            raise UsageError(
                f"no check is left to run: {source} ignores {', '.join(ignore)}; --ignore takes the place of that"
            ) from None
        raise


def settings_for(configs: tuple[Config, ...], given: Given) -> Settings:
    """What a run's options are. Raises UsageError where the files of two targets differ and the command line is silent."""
    return Settings(
        fail_on=_agreed(configs, given.fail_on, "fail_on", DEFAULT_FAIL_ON),
        budget=_agreed(configs, given.budget, "budget", DEFAULT_BUDGET),
        seed=_agreed(configs, given.seed, "seed", DEFAULT_SEED),
    )


def _agreed(configs: tuple[Config, ...], given: Any, name: str, default: Any) -> Any:
    if given is not None:
        return given
    values: dict[Any, str] = {}
    option = name.replace("_", "-")
    for config in configs:
        value = getattr(config, name)
        source = config.sources.get(option, str(config.path) if config.path else "no configuration")
        values.setdefault(default if value is None else value, source)
    if len(values) > 1:
        said = ", ".join(f"{value} ({source})" for value, source in values.items())
        raise UsageError(f"the targets' configurations differ in {option}: {said}; say --{option} on the command line")
    return next(iter(values), default)
