"""Whether training can be taken up again."""
