"""Which versions of a model answer: how they change, and what stands beside another. Knows no HTTP routes."""
