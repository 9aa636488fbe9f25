"""The version, a literal so that `nncheck --version` imports nothing."""

__version__ = "0.1.0"
