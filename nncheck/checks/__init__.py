"""Checks, one file each, by stage. A check judges evidence and never measures."""
