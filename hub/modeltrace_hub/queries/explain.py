"""Explain how a selection of traces or predictions differs from others: properties that are over-represented in it.

Properties are attributes, features by bin, outputs, model versions, resources, spans, and how the items ended. Each is
tested by Fisher's exact test, and all p-values are corrected for the number of tests. An over-represented property is
not necessarily the cause.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from modeltrace_hub.queries.explain_parameters import Comparison, ExplainFilter
from modeltrace_hub.queries.explain_sets import define_sets
from modeltrace_hub.queries.model_schema import read_schema
from modeltrace_hub.queries.proportions import CONFIDENCE_LEVEL, adjust_holm, fisher_greater, newcombe_interval
from modeltrace_hub.queries.reader import Reader, Record

# A property counts as over-represented if its corrected p-value is at most this.
SIGNIFICANCE_LEVEL: Final = 0.05
# Properties of fewer items of the sample are not tested. The choice does not depend on which items are selected.
MIN_ITEMS: Final = 5
# Of a property with more values, the most frequent ones are tested.
MAX_VALUES: Final = 100
# Numbers with at most this many different values are not divided into bins.
MAX_CATEGORIES: Final = 12
# Attributes with a larger share of different values, such as IDs, are not tested.
MAX_UNIQUE_SHARE: Final = 0.8
# Longer values are cut.
MAX_TEXT: Final = 200
# Maximum number of models whose bins of the training data are used: those that were loaded last.
MAX_MODELS: Final = 20

# The kinds of properties, in the order of preference among those that the same items have.
KINDS: Final = ("feature", "violation", "attribute", "resource", "span", "failed span", "duration")
# These say how an item ended, with the output of the model, or how long it took. They are listed separately from the
# properties that it began with.
_OUTCOME_KINDS: Final = {"failed span", "duration"}
_INPUT_KINDS: Final = {"feature", "violation"}
_OUTCOME_KEY: Final = re.compile(
    r"error|error\.type|exception\..+|otel\.status_.+|http\.(?:response\.)?status_code|rpc\.(?:grpc\.|response\.)?status_code"
    r"|ml\.prediction\.(?:true_label|label|value|bin|confidence|outputs|interval\..+)"
)
# A port of a connection and the position in a batch are chance, so they are not tested.
_CHANCE_KEY: Final = re.compile(r"(?:.*[._])?port|ml\.prediction\.row")
# The columns that identify a property, and those that count all items.
_IDENTITY: Final = ("kind", "key", "value", "low", "high", "is_bin")
_TOTALS: Final = ("selected_count", "other_count", "selected_total", "other_total")


def explain(reader: Reader, options: ExplainFilter, comparison: Comparison) -> Record:
    """Compare two sets of traces or predictions.

    Returns:
        A record with these keys:

        - `of`: traces or predictions.
        - `selected`, `other`: for each set, the number of its items (`count`) and of those in the sample (`sampled`).
        - `tests`: the number of tested properties.
        - `significance_level`, `confidence_level`.
        - `properties`, `outcomes`: the over-represented properties, and how the items ended. Significant ones are
          first, then those with the largest lower limit of the difference. Each has `kind`, `key`, `value` or the
          bounds `low` (exclusive) and `high` (inclusive), the counts and shares in both samples, `difference` with the
          limits of its confidence interval, `p_value`, `p_adjusted`, `significant`, `same_items` (other properties of
          exactly the same items), and `trace_ids` of selected items.
    """
    sets = define_sets(reader, comparison)
    counts = reader.fetch_all(
        f"explain_{options.of}",
        sets.conditions,
        {"selected": sets.selected, "against": sets.against},
        **sets.values,
        edges=orjson.dumps(_training_edges(reader, sets.model, sets.version)).decode(),
        max_items=options.sample,
        max_text=MAX_TEXT,
        max_categories=MAX_CATEGORIES,
        max_values=MAX_VALUES,
        max_unique_share=MAX_UNIQUE_SHARE,
        min_count=MIN_ITEMS,
    )
    everything = next((row for row in counts if not row["kind"]), dict.fromkeys(_TOTALS, 0))
    sizes = everything["selected_count"], everything["other_count"]
    # A property that all items have cannot differ.
    differing = [
        row
        for row in counts
        if row["kind"] and row["selected_count"] + row["other_count"] < sum(sizes) and not _is_chance(row)
    ]
    candidates = [row for row in _merge_equal(differing) if not sets.defining_keys & _keys(row)] if all(sizes) else []
    rows = _test(candidates, *sizes)
    if options.of == "predictions":  # the route of a request, for example, says less about a prediction than an input
        rows.sort(key=lambda row: (not row["significant"], row["kind"] not in _INPUT_KINDS))
    listed = {"properties": [row for row in rows if not _is_outcome(row)], "outcomes": [*filter(_is_outcome, rows)]}
    return {
        "of": options.of,
        "selected": {"count": everything["selected_total"] or 0, "sampled": sizes[0]},
        "other": {"count": everything["other_total"] or 0, "sampled": sizes[1]},
        "tests": len(candidates),
        "significance_level": SIGNIFICANCE_LEVEL,
        "confidence_level": CONFIDENCE_LEVEL,
        **{name: items[: options.rows] for name, items in listed.items()},
    }


def _test(rows: list[Record], selected_size: int, other_size: int) -> list[Record]:
    """Return the properties with a larger share of the selection, the most important first."""
    pairs = [(row["selected_count"], selected_size, row["other_count"], other_size) for row in rows]
    p_values = [fisher_greater(*pair) for pair in pairs]
    tested = []
    for row, pair, p_value, p_adjusted in zip(rows, pairs, p_values, adjust_holm(p_values), strict=True):
        difference = pair[0] / pair[1] - pair[2] / pair[3]
        if difference <= 0:
            continue
        low, high = newcombe_interval(*pair)
        tested.append(
            {
                **{name: row[name] for name in _IDENTITY},
                "selected_count": pair[0],
                "selected_share": pair[0] / pair[1],
                "other_count": pair[2],
                "other_share": pair[2] / pair[3],
                "difference": difference,
                "difference_low": low,
                "difference_high": high,
                "p_value": p_value,
                "p_adjusted": p_adjusted,
                "significant": p_adjusted <= SIGNIFICANCE_LEVEL,
                "same_items": row["same_items"],
                "trace_ids": row["trace_ids"],
            }
        )
    listed: dict[tuple[str, str, object, object], Record] = {}
    for row in sorted(tested, key=lambda row: (not row["significant"], -row["difference_low"], _preference(row))):
        # Of the bounds that a duration exceeds, the one with the largest difference is listed.
        bound = None if row["kind"] == "duration" else row["low"]
        listed.setdefault((row["kind"], row["key"], row["value"], bound), row)
    return [*listed.values()]


def _merge_equal(rows: Iterable[Record]) -> list[Record]:
    """Merge the properties that exactly the same items have, since testing them again says nothing new."""
    groups: dict[tuple[int, int, int], list[Record]] = {}
    for row in sorted(rows, key=_preference):
        groups.setdefault((row["items_hash"], row["selected_count"], row["other_count"]), []).append(row)
    return [
        {**first, "same_items": [{name: other[name] for name in _IDENTITY} for other in others]}
        for first, *others in groups.values()
    ]


def _preference(row: Record) -> tuple[Any, ...]:
    return _is_outcome(row), KINDS.index(row["kind"]), row["key"], row["value"] or "", row["high"] or 0


def _is_outcome(row: Mapping[str, Any]) -> bool:
    return row["kind"] in _OUTCOME_KINDS or (row["kind"] == "attribute" and bool(_OUTCOME_KEY.fullmatch(row["key"])))


def _is_chance(row: Mapping[str, Any]) -> bool:
    return row["kind"] == "attribute" and bool(_CHANCE_KEY.fullmatch(row["key"]))


def _keys(row: Record) -> set[tuple[str, str]]:
    """Return kind and key of a property and of those that the same items have."""
    return {(item["kind"], item["key"]) for item in (row, *row["same_items"])}


def _training_edges(reader: Reader, model: str | None, version: str | None) -> dict[str, list[float]]:
    """Return the inner bounds of the bins of each numeric feature; of a feature of several models, the last loaded."""
    names = [model] if model else [row["model"] for row in reader.fetch_all("list_model_names", limit=MAX_MODELS)]
    edges: dict[str, list[float]] = {}
    for name in names:
        for feature in read_schema(reader, name, version).values():
            if feature.edges and feature.name:
                edges.setdefault(feature.name, sorted(feature.edges))
    return edges
