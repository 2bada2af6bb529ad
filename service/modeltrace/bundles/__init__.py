"""Bundles: the format on disk, packing an estimator, and the checks before one is loaded."""
