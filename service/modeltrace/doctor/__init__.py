"""`modeltrace doctor`: follow one prediction to the telemetry backend."""
