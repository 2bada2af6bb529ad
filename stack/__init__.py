"""The real stack on one machine, without Docker: built once from pinned sources, run as plain processes."""
