"""Benchmarks that report ratios measured within one run. Each prints a table, or JSON with --json."""
