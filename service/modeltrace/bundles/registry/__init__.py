"""Where bundles come from: a folder, a folder of them, an MLflow registry. Knows no HTTP routes."""
