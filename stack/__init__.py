"""The Collector and its backends on one machine, without Docker: built once from pinned sources, run as processes."""
