"""The build context of a container image that serves one bundle."""
