"""Schema violations that a bundle allows: configured when a model is packed, and verified against the model."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import pandas as pd

from modeltrace.errors import PackError
from modeltrace.inference.category_levels import unseen_level
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import PredictFn
from modeltrace.inference.schema import REASONS, Feature, OnViolation, Reason, Schema, Value, ViolationAction
from modeltrace.inference.validate import Values

# The allowed reasons by feature name. An empty collection allows every reason that can occur for the feature.
AllowedViolations = Mapping[str, Collection[Reason]]

# Training rows that are used to try each kind of violation.
MAX_TRIAL_ROWS = 20


def check_allowed_violations(allowed: AllowedViolations, training: pd.DataFrame) -> None:
    """Check that each name is a feature of the training data.

    Raises:
        PackError: a name is not a feature; the message contains the name.
    """
    for name in allowed:
        if name not in training.columns:
            raise PackError(
                f"--allow-violations {name}: the training data has no feature of that name. The reasons are "
                f"{', '.join(REASONS)}"
            )


def allow_violations(feature: Feature, reasons: Collection[Reason]) -> Feature:
    """Return the feature with some violations allowed, and with a dtype that can hold missing values if necessary.

    Raises:
        PackError: a reason cannot occur: the feature has no range or no categories, or missing values are valid.
    """
    impossible: dict[Reason, str | None] = {
        "missing": "the training data has missing values, so they are valid" if feature.nullable else None,
        "type": None,
        "range": None if feature.valid_range else "it has no valid range, which --range sets",
        "category": None if feature.enforce_categories else f"it has the type {feature.type}, which has no categories",
    }
    for reason in reasons:
        if why := impossible[reason]:
            raise PackError(f"--allow-violations {feature.name}={reason}: {why}")
    allowed = reasons or [reason for reason in REASONS if impossible[reason] is None]
    actions: dict[str, ViolationAction] = dict.fromkeys(allowed, "count")
    dtype = feature.dtype
    if ("missing" in allowed or "type" in allowed) and dtype in ("int64", "bool"):
        dtype = "float64"  # `pack` verifies later that the outputs are still the same
    return Feature.model_validate(
        {**feature.model_dump(), "dtype": dtype, "on_violation": OnViolation.model_validate(actions)}
    )


def verify_allowed_violations(predict: PredictFn, schema: Schema, rows: Sequence[Values], *, as_frame: bool) -> None:
    """Check that the model predicts rows with allowed violations, both in a batch and as a single row.

    If the predictions of valid rows have a confidence, these predictions must have one too.

    Raises:
        PackError: the check fails; the message contains the feature and the remedy.
    """
    rows = rows[:MAX_TRIAL_ROWS]
    try:
        outputs = predict(to_matrix(rows, schema, as_frame=as_frame))
    except Exception as error:
        raise PackError(
            f"the model cannot predict rows of the training data: {type(error).__name__}: {error}"
        ) from error
    has_confidence = any(output.confidence is not None for output in outputs)
    for names, reason, violating in violating_rows(schema, rows):
        try:
            outputs = predict(to_matrix(violating, schema, as_frame=as_frame))
            outputs += predict(to_matrix(violating[:1], schema, as_frame=as_frame))
        except Exception as error:
            raise PackError(_error_message(names, reason, f"{type(error).__name__}: {error}")) from error
        if has_confidence and any(output.confidence is None for output in outputs):
            raise PackError(_error_message(names, reason, "its predictions have no confidence then"))


def violating_rows(schema: Schema, rows: Sequence[Values]) -> Iterator[tuple[list[str], str, list[Values]]]:
    """Yield feature names, reason and rows for each allowed kind of violation.

    Each feature is changed alone. At the end, all features that may be missing are missing at once. Violations of a
    range are left out, because the model does not know the range.
    """
    missing = []
    for index, feature in enumerate(schema.features):
        for reason in ("missing", "type"):
            if getattr(feature.on_violation, reason) == "count":
                yield [feature.name], reason, _replace_values(rows, [index], None)
                missing.append(index)
        if feature.on_violation.category == "count" and (unseen := unseen_category(feature)) is not None:
            yield [feature.name], "category", _replace_values(rows, [index], unseen)
    if len(set(missing)) > 1:
        names = [schema.names[index] for index in dict.fromkeys(missing)]
        yield names, "missing", _replace_values(rows, missing, None)


def unseen_category(feature: Feature) -> Value:
    """Return a category that the training data does not have, or `None` if no such category exists."""
    return unseen_level(feature.categories or (), feature.level_kind or "text")


def _replace_values(rows: Sequence[Values], indices: Collection[int], value: Value) -> list[Values]:
    return [tuple(value if index in indices else own for index, own in enumerate(row)) for row in rows]


def _error_message(names: Sequence[str], reason: str, why: str) -> str:
    violation = {
        "missing": "a missing value",
        "type": "a value of a wrong type (the model gets a missing value in its place)",
        "category": "a category that the training data does not have",
    }[reason]
    first_line = why.strip().splitlines()[0][:300]
    return (
        f"--allow-violations {', '.join(names)}: the model does not accept {violation} there ({first_line}). "
        f"Leave out {reason}, so that such rows are rejected"
    )
