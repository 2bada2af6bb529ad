"""The commands of `modeltrace-hub` that read telemetry: from a running hub, or from a database file."""
