"""Renderers: a `Report` in, text out. Nothing in here imports torch."""
