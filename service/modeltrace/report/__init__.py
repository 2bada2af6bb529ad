"""Compare stored predictions with a reference. Third-party libraries do this, each in its own virtual environment."""
