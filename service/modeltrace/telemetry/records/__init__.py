"""Telemetry records of predictions and feedback: plain values that can cross a pipe."""
