"""The embedded hub: an OTLP receiver with a DuckDB store and web pages. It imports nothing of the service."""
