"""Load a bundle and predict its example. The folder and the trusted types are on stdin, as JSON."""

import json
import sys
from pathlib import Path

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.verify_outputs import verify_example
from modeltrace.errors import ModeltraceError


def verify_bundle(folder: str, trusted_types: list[str]) -> None:
    """Load a bundle, whose code and pickles are trusted, and predict its example.

    Raises:
        ModeltraceError: the bundle cannot be used.
    """
    verify_example(load_bundle(Path(folder), trust_pickle=True, trust_code=True, trusted_types=trusted_types))


if __name__ == "__main__":
    try:
        verify_bundle(**json.load(sys.stdin))
    except ModeltraceError as error:
        sys.exit(str(error).replace("\n", " "))
