"""Checks of the stage learning."""
