"""The embedded hub: OTLP in, DuckDB, a page. It knows the service only by its OTLP."""
