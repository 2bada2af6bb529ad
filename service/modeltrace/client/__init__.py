"""HTTP clients of the prediction service."""
