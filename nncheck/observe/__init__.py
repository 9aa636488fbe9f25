"""What is seen while the user's code runs, and whose line it was."""
