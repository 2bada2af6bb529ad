"""Write the list of `modeltrace.bundles.estimator_names`: `./dev run python -m tests.helpers.estimator_names`."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("scikit-learn", "skops")
LIST = Path("service/modeltrace/bundles/estimator_names.json")

_PRINT = """
import json
from skops.io import _trusted_types
names = {name: value for name, value in vars(_trusted_types).items() if name.endswith("_NAMES")}
print(json.dumps(names))
"""


def trusted_names(first: str = "") -> Mapping[str, Sequence[str]]:
    """Return every list of trusted names in skops, from a new process that runs `first` before it imports skops."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", first + _PRINT], capture_output=True, text=True, check=True
    )
    lists: Mapping[str, Sequence[str]] = json.loads(process.stdout)
    return lists


def main() -> None:
    """Write the list for the installed versions."""
    versions = {library: version(library) for library in LIBRARIES}
    names = sorted(trusted_names()["SKLEARN_ESTIMATOR_TYPE_NAMES"])
    LIST.write_text(json.dumps({"versions": versions, "names": names}, indent=2) + "\n")


if __name__ == "__main__":
    main()
