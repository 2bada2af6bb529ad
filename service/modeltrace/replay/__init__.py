"""Replay of stored predictions: run the same inputs through a model again, and compare the outputs."""
