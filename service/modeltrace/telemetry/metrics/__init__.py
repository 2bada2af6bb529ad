"""Metric instruments, and the aggregation of records into data points."""
