"""Alerts without Prometheus: rules on the hub's own figures, and messages about them."""
