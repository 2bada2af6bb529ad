"""From a row of features to an answer. It knows nothing of HTTP."""
