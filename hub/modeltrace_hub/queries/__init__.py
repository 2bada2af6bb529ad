"""What may be asked of the store, by pages and API alike. The SQL stands in hub/modeltrace_hub/sql/queries."""
