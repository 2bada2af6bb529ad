"""HTTP: what comes in, what goes out. It knows nothing of scikit-learn."""
