"""Parse the options of `modeltrace pack` that name a feature."""

import re

import typer

from modeltrace.bundles.time_columns import ValidRange
from modeltrace.inference.schema import PRIVACY_RULES, REASONS, PrivacyRule, Reason


def parse_valid_range(text: str) -> tuple[str, ValidRange]:
    """Parse `FEATURE=LOW:HIGH` with numbers, or `FEATURE=LOW/HIGH` with texts of times or durations."""
    name, _, bounds = text.rpartition("=")
    low_time, slash, high_time = bounds.partition("/")
    if name and slash:
        return name, (low_time, high_time)
    try:
        low, high = (float(bound) for bound in bounds.split(":"))
    except ValueError:
        raise typer.BadParameter(
            "write FEATURE=LOW:HIGH, e.g. age=0:120, or for times and durations FEATURE=LOW/HIGH, e.g. "
            "since=2020-01-01/2025-12-31",
            param_hint="--range",
        ) from None
    if not name or not float("-inf") < low <= high < float("inf"):
        raise typer.BadParameter("the bounds must be finite, the lower one first: age=0:120", param_hint="--range")
    return name, (low, high)


def parse_max_length(text: str) -> tuple[str, int]:
    """Parse `FEATURE=CHARACTERS`."""
    name, _, length = text.rpartition("=")
    if not name or not re.fullmatch("[0-9]{1,9}", length) or int(length) < 1:
        raise typer.BadParameter("write FEATURE=CHARACTERS, e.g. comment=2000", param_hint="--max-length")
    return name, int(length)


def parse_allowed_violations(text: str) -> tuple[str, tuple[Reason, ...]]:
    """Parse `FEATURE` or `FEATURE=REASON,…`. No reasons mean all reasons."""
    name, _, tail = text.rpartition("=")
    reasons = tuple(reason for reason in REASONS if reason in tail.split(","))
    # A feature name may contain an equals sign.
    return (name, reasons) if name and set(tail.split(",")) <= set(REASONS) else (text, ())


def merge_allowed_violations(texts: list[str]) -> dict[str, tuple[Reason, ...]]:
    """Parse and merge the options by feature. An empty tuple means all reasons."""
    merged: dict[str, tuple[Reason, ...]] = {}
    for name, reasons in map(parse_allowed_violations, texts):
        allows_all = not reasons or merged.get(name) == ()
        merged[name] = () if allows_all else tuple(dict.fromkeys((*merged.get(name, ()), *reasons)))
    return merged


def parse_privacy_rule(text: str) -> tuple[str, PrivacyRule]:
    """Parse `FEATURE=RULE`."""
    name, _, rule_name = text.rpartition("=")
    rule = next((rule for rule in PRIVACY_RULES if rule == rule_name), None)
    if not name or rule is None:
        raise typer.BadParameter("write FEATURE=hash, =bucket, =drop or =plain", param_hint="--privacy")
    return name, rule
