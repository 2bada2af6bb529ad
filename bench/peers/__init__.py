"""Modeltrace beside the other Python model servers."""
