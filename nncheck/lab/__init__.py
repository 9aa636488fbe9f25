"""Where the user's set-up is run: its objects put back, its batches kept, its passes counted."""
