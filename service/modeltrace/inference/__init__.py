"""Prediction pipeline: feature schema, validation, model, batching and prediction IDs. It does not depend on HTTP."""
