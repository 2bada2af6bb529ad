"""Bundles that contain the errors of their model for held-out rows."""

import json
from pathlib import Path
from typing import Any


def set_held_out(bundle: Path, **figures: Any) -> Path:
    """Write the errors of a model for held-out rows into its bundle, and return the bundle.

    Args:
        bundle: the folder.
        figures: the fields of `HeldOut`; `labelled_rows` is equal to `rows` if it is absent.
    """
    file = bundle / "model.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["held_out"] = {"method": "held_out", "labelled_rows": figures["rows"], **figures}
    file.write_text(json.dumps(manifest), encoding="utf-8")
    return bundle
