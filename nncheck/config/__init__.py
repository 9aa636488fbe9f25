"""What a project says in `nncheck.toml`, or under `[tool.nncheck]` in its `pyproject.toml`, and what is in force for a run."""

from nncheck.config.model import Accept, Config, FailOn, Level
from nncheck.config.nearest import FILE, config_for

__all__ = ["FILE", "Accept", "Config", "FailOn", "Level", "config_for"]
