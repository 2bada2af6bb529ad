"""Which version comes after those of a model that are known."""

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
    """Return the versions of a model that are in any of the sources; a source that cannot be read has none."""
    found = set()
    for source in sources:
        try:
            found |= {one.version for one in catalog.list_bundles(source) if one.name == name}
        except ModeltraceError:
            continue
    return found


def next_version(versions: Iterable[str]) -> str:
    """Return the highest version with its last number raised by one, or the first version if there is none.

    The result is none of those that are known.
    """
    taken = set(versions)
    if not taken:
        return FIRST_VERSION
    version = max(taken, key=sort_key)
    while version in taken:
        raised = _LAST_NUMBER.sub(lambda number: str(int(number[0]) + 1).zfill(len(number[0])), version)
        version = raised if raised != version else f"{version}.1"
    return version


def version_sources(out: Path, named: Sequence[str], registered: str | None) -> list[str]:
    """Return where bundles of a model may be when it is packed again.

    Args:
        out: the folder that it is packed into.
        named: further sources that are known.
        registered: the model's name in the MLflow registry that it goes to, if any.
    """
    models = [] if registered is None else [f"models:/{registered}/1"]
    folders = [str(folder) for folder in (out, out.absolute().parent) if folder.is_dir()]
    return [*folders, *named, *models]
