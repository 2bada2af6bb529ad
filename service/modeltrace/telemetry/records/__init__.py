"""Telemetry records of predictions and feedback: plain values that can be sent through a pipe."""
