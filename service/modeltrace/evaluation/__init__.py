"""Is the model still right: figures from the predictions and labels in the prediction store, and their alarms."""
