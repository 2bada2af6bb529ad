"""Reports of stored predictions against a reference, by third-party libraries, each in its own virtual environment."""
