"""The prediction store: one row per prediction, regardless of trace sampling, and the true labels that arrive later."""
