"""The sidecar: a process of each worker that encodes, delivers and spools telemetry, and stores predictions.

From the service it imports only the code that worker and sidecar share: records, frames and configuration
(`modeltrace.telemetry`), the OTLP client (`modeltrace.otlp`) and the prediction store (`modeltrace.store`). It imports
neither the API nor the model, so it starts quickly and stays small.
"""
