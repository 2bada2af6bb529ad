"""Proxies store the parts of an estimator that skops cannot store, in a format that contains no code."""
