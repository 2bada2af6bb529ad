"""Models in ONNX Runtime: export, validation and loading."""
