"""Checks of the stage setup."""
