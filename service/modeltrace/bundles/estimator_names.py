"""The estimators of scikit-learn that skops trusts, from a list that tests/helpers/estimator_names.py writes."""

import json
from pathlib import Path

_LIST = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

# The list holds for exactly these versions.
VERSIONS: dict[str, str] = _LIST["versions"]
NAMES: list[str] = _LIST["names"]
