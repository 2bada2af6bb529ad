"""`modeltrace up`: hub, service and traffic as child processes on one machine."""
