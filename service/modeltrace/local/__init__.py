"""What `modeltrace up` runs on one machine: hub, service and traffic as child processes, started and ended together."""
