"""The process beside each worker that encodes, delivers and keeps telemetry. It imports nothing of the service's."""
