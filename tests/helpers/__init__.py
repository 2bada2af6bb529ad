"""Helpers of the tests: processes, free ports, backends, models, generated telemetry."""
