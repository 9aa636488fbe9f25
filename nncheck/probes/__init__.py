"""Measurements, one file each: a frozen dataclass of plain numbers and the one function that fills it."""
