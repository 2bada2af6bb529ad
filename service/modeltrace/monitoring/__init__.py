"""Data drift, reference metrics and true labels of a model."""
