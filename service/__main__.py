"""`python -m service` is `modeltrace`."""

from service.cli import main

main()
