"""The prediction store: a row for each answered prediction, whatever is sampled, and the labels that arrive later."""
