"""The loss that was really called, and the values that are known of it."""
