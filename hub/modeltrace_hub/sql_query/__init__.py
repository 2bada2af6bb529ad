"""Run a SQL query of a user in a process of its own, over copies of the rows that it reads."""
