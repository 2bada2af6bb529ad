"""The model service: it answers, and it tells what it did over OTLP. It knows nothing of what receives that."""
