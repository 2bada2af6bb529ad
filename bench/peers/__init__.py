"""Modeltrace compared with other Python model servers."""
