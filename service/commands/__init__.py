"""The commands of `modeltrace`, one a file: they read options, call the rest, and print."""
