"""What nncheck costs, measured: `python -m bench`."""
