"""The export queue in the service, and its connection to the sidecar process."""
