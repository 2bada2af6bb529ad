"""Batch scoring: the rows of a file are predicted in this process, and the predictions are written to a file."""
