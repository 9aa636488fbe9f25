"""Checks of the stage init."""
