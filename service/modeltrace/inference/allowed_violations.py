"""What a bundle lets through although it breaks the schema: asked for at packing, and proven to be answered."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pandas as pd

from modeltrace.errors import PackError
from modeltrace.inference.features import Matrix, to_matrix
from modeltrace.inference.levels import unseen_level
from modeltrace.inference.model import ModelOutput
from modeltrace.inference.schema import REASONS, Feature, OnViolation, Reason, Schema, Value, ViolationAction
from modeltrace.inference.validate import Values

# By feature, the reasons that are let through; none named: all that can occur.
AllowedViolations = Mapping[str, Collection[Reason]]

# Rows that each kind of violation is tried in.
MAX_TRIAL_ROWS = 20


def check_allowed_violations(asked: AllowedViolations, training: pd.DataFrame) -> None:
    """See that the model has each feature, and that each reason can occur there.

    Raises:
        PackError: one does not; the message names it.
    """
    for name in asked:
        if name not in training.columns:
            reasons = ", ".join(REASONS)
            raise PackError(f"--allow-violations names {name}, which is no feature (and the reasons are {reasons})")


def allow_violations(feature: Feature, reasons: Collection[Reason]) -> Feature:
    """The feature with some violations let through; its column then has room for a missing value if it needs to.

    Raises:
        PackError: a reason cannot occur: there is no range or category to break, or missing is in order anyway.
    """
    possible: dict[Reason, str | None] = {
        "missing": "training had it missing, so that breaks nothing" if feature.nullable else None,
        "type": None,
        "range": None if feature.valid_range else f"it has no valid range; --range {feature.name}=LOW:HIGH sets one",
        "category": None if feature.enforce_categories else f"it is of type {feature.type}, which has no categories",
    }
    for reason in reasons:
        if why := possible[reason]:
            raise PackError(f"--allow-violations {feature.name}={reason}: {why}")
    counted = reasons or [reason for reason in REASONS if possible[reason] is None]
    treatments: dict[str, ViolationAction] = dict.fromkeys(counted, "count")
    dtype = feature.dtype
    if ("missing" in counted or "type" in counted) and dtype in ("int64", "bool"):
        dtype = "float64"  # whether the answers are the same then is proven with all others
    return Feature.model_validate(
        {**feature.model_dump(), "dtype": dtype, "on_violation": OnViolation.model_validate(treatments)}
    )


def verify_allowed_violations(
    ask: Callable[[Matrix], list[ModelOutput]], schema: Schema, rows: Sequence[Values], *, as_frame: bool
) -> None:
    """Ask the model for rows that are let through, together and one alone: it must answer as it answers others.

    Raises:
        PackError: it does not; the message says for which feature, and the way out.
    """
    rows = rows[:MAX_TRIAL_ROWS]
    try:
        sure = any(answer.confidence is not None for answer in ask(to_matrix(rows, schema, as_frame=as_frame)))
    except Exception as error:
        raise PackError(
            f"the model cannot answer rows of the training data: {type(error).__name__}: {error}"
        ) from error
    for names, reason, changed in violating_rows(schema, rows):
        try:
            answers = ask(to_matrix(changed, schema, as_frame=as_frame))
            answers += ask(to_matrix(changed[:1], schema, as_frame=as_frame))
        except Exception as error:
            raise PackError(_cannot(names, reason, f"{type(error).__name__}: {error}")) from error
        if sure and any(answer.confidence is None for answer in answers):
            raise PackError(_cannot(names, reason, "it answers without a confidence then"))


def violating_rows(schema: Schema, rows: Sequence[Values]) -> Iterator[tuple[list[str], str, list[Values]]]:
    """Rows as they may be let through: which features are spoilt, how, and the rows.

    Each feature by itself, then all that may be missing at once. A number out of its range is a number like others.
    """
    gaps = []
    for place, feature in enumerate(schema.features):
        for reason in ("missing", "type"):
            if getattr(feature.on_violation, reason) == "count":
                yield [feature.name], reason, _with(rows, [place], None)
                gaps.append(place)
        if feature.on_violation.category == "count" and (unseen := unseen_category(feature)) is not None:
            yield [feature.name], "category", _with(rows, [place], unseen)
    if len(set(gaps)) > 1:
        yield [schema.names[place] for place in dict.fromkeys(gaps)], "missing", _with(rows, gaps, None)


def unseen_category(feature: Feature) -> Value:
    """A category that training did not have; `None` where there is no other."""
    return unseen_level(feature.categories or (), feature.level_kind or "text")


def _with(rows: Sequence[Values], places: Collection[int], value: Value) -> list[Values]:
    return [tuple(value if place in places else own for place, own in enumerate(row)) for row in rows]


def _cannot(names: Sequence[str], reason: str, why: str) -> str:
    what = {
        "missing": "a missing value",
        "type": "a value of a wrong type, which the model is given as missing,",
        "category": "a category that training did not have",
    }[reason]
    first = why.strip().splitlines()[0][:300]
    return (
        f"--allow-violations {', '.join(names)}: the model does not take {what} there ({first}); "
        f"leave out {reason}, so that such rows are rejected"
    )
