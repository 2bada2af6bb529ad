"""Recorded predictions, answered again: what was recorded, what is answered now, and whether they differ."""
