"""One pass over a loader that serves every check of the data: batch by batch, in small sums, never holding the data set."""
