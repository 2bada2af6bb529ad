"""Model evaluation: metrics from the predictions and labels in the prediction store, and concept drift detection."""
