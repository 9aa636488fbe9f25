"""Cases: a healthy set-up, the same with one fault, the same after the advice was followed, and near misses."""
