"""What is watched about a model: whether the data it gets is still the data it was fitted on."""
