"""Unmodified training scripts: run to their first optimizer step, understood from what happened, asked through their own loop."""
