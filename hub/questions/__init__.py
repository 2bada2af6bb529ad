"""What may be asked of the store, by pages and API alike. The SQL stands in hub/sql/questions."""
