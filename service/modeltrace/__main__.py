"""Run the `modeltrace` command: `python -m modeltrace`."""

from modeltrace.cli.main import main

main()
