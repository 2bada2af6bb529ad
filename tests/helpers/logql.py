"""Parse the part of LogQL that the queries of this project use. Any other query is an error.

    query   = stream { "|" filter }
    stream  = "{" matcher { "," matcher } "}"
    metric  = "sum" [ "by" "(" name { "," name } ")" ] "(" function "(" query "[" duration "]" ")" ")"

The result contains the labels that select streams and the fields that records are filtered and grouped by. A test
compares them with Loki's index labels and the attributes that the service sends. If a valid query is an error, extend
this grammar.

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
    """A query does not match the grammar above."""


@dataclass(frozen=True)
class Query:
    """The labels that select streams, the fields that are filtered by, and those that a sum is grouped by."""

    labels: frozenset[str]
    filters: frozenset[str]
    groups: frozenset[str] = frozenset()


def parse(text: str) -> Query:
    """Parse a query.

    Raises:
        LogqlError: the query does not match the grammar; the message quotes the rest that is not matched.
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
    """Match a pattern repeatedly from the beginning. Return the first group of each match, and the rest."""
    names: list[str] = []
    while match := pattern.match(rest):
        names.append(match[1])
        rest = rest[match.end() :]
        if separator and not rest.startswith(separator):
            break
        rest = rest.removeprefix(separator) if separator else rest
    return names, rest
