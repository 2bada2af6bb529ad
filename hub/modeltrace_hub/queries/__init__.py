"""Query the store for the pages and the API. The SQL is in hub/modeltrace_hub/sql/queries."""
