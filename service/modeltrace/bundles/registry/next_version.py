"""Choose the next version of a model from its earlier versions."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.version_order import sort_key
from modeltrace.errors import ModeltraceError

FIRST_VERSION: Final = "1.0.0"
_LAST_NUMBER: Final = re.compile(r"[0-9]+(?=[^0-9]*\Z)")


def known_versions(name: str, sources: Sequence[str], catalog: Catalog) -> set[str]:
    """Return the versions of a model in all sources. Sources that cannot be read are skipped."""
    versions = set()
    for source in sources:
        try:
            versions |= {bundle.version for bundle in catalog.list_bundles(source) if bundle.name == name}
        except ModeltraceError:
            continue
    return versions


def next_version(versions: Iterable[str]) -> str:
    """Return the highest version with its last number incremented, or `FIRST_VERSION` if there is none.

    The result is never one of `versions`.
    """
    taken = set(versions)
    if not taken:
        return FIRST_VERSION
    version = max(taken, key=sort_key)
    while version in taken:
        incremented = _LAST_NUMBER.sub(lambda number: str(int(number[0]) + 1).zfill(len(number[0])), version)
        version = incremented if incremented != version else f"{version}.1"
    return version


def version_sources(out: Path, named: Sequence[str], registered: str | None) -> list[str]:
    """Return the sources that may contain earlier versions of a model.

    Args:
        out: the folder that the model is packed into.
        named: further sources, from settings.
        registered: the name of the model in the MLflow registry, if it is registered.
    """
    models = [] if registered is None else [f"models:/{registered}/1"]
    folders = [str(folder) for folder in (out, out.absolute().parent) if folder.is_dir()]
    return [*folders, *named, *models]
