"""What turns results into the verdict of a gate: levels, acceptances, baselines, and what need not be run again. No torch."""
