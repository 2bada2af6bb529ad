"""Bundles: their format on disk, how an estimator is packed, and the checks before a bundle is loaded."""
