"""The model service: serves models over HTTP and exports telemetry of every prediction over OTLP."""
