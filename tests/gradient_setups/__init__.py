"""Small set-ups that stop a gradient, forget a parameter or make a NaN, and sound ones that only look as if they did."""
