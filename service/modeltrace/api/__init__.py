"""The HTTP API: routes, request bodies, errors. It does not import scikit-learn."""
