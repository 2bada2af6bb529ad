"""Inference protocols of other servers: from their requests to rows, and from predictions to their responses.

The package knows the content of a body, and no HTTP: paths, headers and status codes belong to `modeltrace.api`.
"""
