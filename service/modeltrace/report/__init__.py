"""Predictions of the store against a reference, by the field's own libraries, each in an environment of its own."""
