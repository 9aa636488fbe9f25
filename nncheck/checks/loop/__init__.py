"""Checks of the training loop itself: what a script does from step to step and from epoch to epoch."""
