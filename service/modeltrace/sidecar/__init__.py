"""The sidecar process beside each worker: encodes telemetry, delivers and spools it, writes the prediction store."""
