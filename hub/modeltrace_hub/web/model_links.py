"""Build the addresses behind the figures of a model: its predictions, and the comparison of two sets of them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from modeltrace_hub.queries.explain_parameters import AGAINST_PREFIX, SELECT_PREFIX
from modeltrace_hub.queries.model_parameters import Window
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web.model_charts import Link


def prediction_link(model: str, version: str, window: Window) -> Link:
    """Return a function that builds the address of the predictions behind a number of a version."""

    def link(**filters: Any) -> str:  # noqa: ANN401  parameters of the page
        since = filters.pop("since_ns", window.since_ns)
        until = filters.pop("until_ns", window.until_ns)
        parameters = {
            "model": model,
            "version": version or None,
            **filters,
            "since": _unix_seconds(since),
            "until": _unix_seconds(until),
        }
        return f"predictions?{urlencode({name: value for name, value in parameters.items() if value is not None})}"

    return link


def explain_query(parameters: Mapping[str, str]) -> str:
    """Return the query of the page that compares the listed predictions with the others of the model.

    Incorrect predictions are compared with correct ones, and the reverse.
    """
    both = {name: value for name, value in parameters.items() if name in {"model", "since", "until"}}
    selected = {name: value for name, value in parameters.items() if name not in {*both, "limit"}}
    opposite = {"incorrect": "correct", "correct": "incorrect"}.get(selected.get("outcome", ""))
    if not set(selected) - {"version"}:
        both, selected, opposite = {**both, **selected}, {"outcome": "incorrect"}, "correct"
    pairs = {**both, **{f"{SELECT_PREFIX}{name}": value for name, value in selected.items()}}
    against = {f"{AGAINST_PREFIX}outcome": opposite} if opposite else {}
    return urlencode({"of": "predictions", **pairs, **against})


def difference_query(model: str, version: Record, other: Record | None, window: Window) -> str | None:
    """Return the query of the page that compares the predictions of two versions; None if they have the same name.

    Telemetry without a version cannot be selected.
    """
    if other is None or not version["version"] or not other["version"] or version["version"] == other["version"]:
        return None
    parameters = {
        "of": "predictions",
        "model": model,
        "since": _unix_seconds(window.since_ns),
        "until": _unix_seconds(window.until_ns),
        f"{SELECT_PREFIX}version": version["version"],
        f"{AGAINST_PREFIX}version": other["version"],
    }
    return urlencode(parameters)


def _unix_seconds(ns: int) -> str:
    """Format a time as unix seconds, without loss of precision."""
    whole, rest = divmod(ns, 10**9)
    return f"{whole}.{rest:09d}" if rest else str(whole)
