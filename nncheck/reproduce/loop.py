"""The script's own loop, run as it is for a while: modes, schedules, graphs, seeds and waits, as they come."""
