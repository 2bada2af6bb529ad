"""Reads the part of LogQL that this project's queries use, and refuses everything else.

    query   = stream { "|" filter }
    stream  = "{" matcher { "," matcher } "}"
    metric  = "sum" [ "by" "(" name { "," name } ")" ] "(" function "(" query "[" duration "]" ")" ")"

It says which labels select streams and which fields are filtered or grouped by, so that a test can compare them with
what Loki indexes and what the service sends. A query that it refuses is wrong, or needs a line here.

Reference: Grafana Loki documentation, "LogQL: Log query language", sections on log and metric queries.
"""

import re
from dataclasses import dataclass

NAME = r"[a-zA-Z_]\w*"
STRING = r'"(?:[^"\\]|\\.)*"'
MATCHER = re.compile(rf"\s*({NAME})\s*(?:=~|!~|!=|=)\s*{STRING}\s*")
FILTER = re.compile(rf"\s*\|\s*({NAME})\s*(?:(?:=~|!~|!=|=)\s*{STRING}|(?:>=|<=|==|!=|>|<)\s*-?\d+(?:\.\d+)?)\s*")
METRIC = re.compile(
    rf"sum\s*(?:by\s*\(\s*(?P<by>{NAME}(?:\s*,\s*{NAME})*)\s*\)\s*)?"
    r"\(\s*(?:rate|count_over_time)\s*\((?P<query>.*)\[(?:\d+(?:ms|[smhdwy]))+\]\s*\)\s*\)"
)


class LogqlError(ValueError):
    """A query is not of the form above."""


@dataclass(frozen=True)
class Query:
    """The labels that select streams, the fields that are filtered by, and those that a sum is grouped by."""

    labels: frozenset[str]
    filters: frozenset[str]
    groups: frozenset[str] = frozenset()


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        LogqlError: it is not of the form above; the message quotes what is left.
    """
    if metric := METRIC.fullmatch(text.strip()):
        inner = parse(metric["query"])
        return Query(inner.labels, inner.filters, frozenset(re.findall(NAME, metric["by"] or "")))
    rest = text.strip()
    if not rest.startswith("{"):
        raise LogqlError(f"a query begins with a stream selector: {text}")
    labels, rest = _several(MATCHER, rest[1:], separator=",")
    if not labels or not rest.startswith("}"):
        raise LogqlError(f"not a stream selector: {rest}, in {text}")
    filters, rest = _several(FILTER, rest[1:], separator="")
    if rest.strip():
        raise LogqlError(f"not a filter: {rest}, in {text}")
    return Query(frozenset(labels), frozenset(filters))


def _several(pattern: re.Pattern[str], rest: str, *, separator: str) -> tuple[list[str], str]:
    """What the first group finds again and again from the beginning, and what comes after."""
    names: list[str] = []
    while found := pattern.match(rest):
        names.append(found[1])
        rest = rest[found.end() :]
        if separator and not rest.startswith(separator):
            break
        rest = rest.removeprefix(separator) if separator else rest
    return names, rest
