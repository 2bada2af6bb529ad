"""Find bundles: in a folder, in a folder of bundles, in an MLflow registry."""
