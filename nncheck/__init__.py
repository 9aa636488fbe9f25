"""nncheck: what to run before every long training."""
