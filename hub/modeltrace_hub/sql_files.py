"""Load the SQL queries of the hub.

Each query is a file in hub/modeltrace_hub/sql/queries. SQL that several queries share is a file in
hub/modeltrace_hub/sql/fragments; a query includes it by its name in braces. The views that users
query with SQL are files in hub/modeltrace_hub/sql/views.
"""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Final

# If the time of a record is ahead of its arrival by more than this, the record is listed by its arrival.
MAX_CLOCK_SKEW_NS: Final = 3600 * 10**9


def load_queries() -> Mapping[str, str]:
    """Return the SQL of all queries by name, with their fragments."""
    fragments = {**_read_files("sql/fragments"), "max_clock_skew_ns": str(MAX_CLOCK_SKEW_NS)}
    for name, table in (("logs_in_window", "logs"), ("points_in_window", "metric_points")):
        fragments[name] = _insert_fragments(fragments["records_in_window"], {"table": table})
    fragments = {name: _insert_fragments(sql, fragments) for name, sql in fragments.items()}
    return {name: _insert_fragments(sql, fragments) for name, sql in _read_files("sql/queries").items()}


def load_views() -> Mapping[str, str]:
    """Return the SQL of all views that users can query, by name."""
    fragments = _read_files("sql/fragments")
    return {name: _insert_fragments(sql, fragments) for name, sql in sorted(_read_files("sql/views").items())}


def load_fragment(name: str) -> str:
    """Return the SQL of one fragment, which contains no other fragment."""
    return _read_files("sql/fragments")[name]


def _insert_fragments(sql: str, fragments: Mapping[str, str]) -> str:
    """Replace the names in braces by their fragments; leave other braces alone."""
    return re.sub(r"\{(\w+)\}", lambda match: fragments.get(match[1], match[0]), sql)


def _read_files(folder: str) -> dict[str, str]:
    """Return the SQL files of a folder by name."""
    files = resources.files("modeltrace_hub").joinpath(folder).iterdir()
    return {file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in files}
