"""The sidecar: a process beside each worker that encodes, delivers and spools telemetry and writes predictions.

From the service it imports the code that both ends of the pipe share: records, frames and configuration
(`modeltrace.telemetry`), the OTLP client (`modeltrace.otlp`) and the prediction store (`modeltrace.store`). It imports
neither the API nor the model, so it starts quickly and stays small.
"""
