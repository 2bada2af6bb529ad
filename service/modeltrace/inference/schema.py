"""The feature schema of a bundle: type and valid values of each feature, and its distribution in the training data."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modeltrace.bin_names import MISSING, OTHER, numeric_bin_name
from modeltrace.inference.category_levels import Level, LevelKind, infer_level_kind
from modeltrace.inference.time_values import TimeColumn, TimeUnit
from modeltrace.printable import has_control_characters

FeatureType = Literal["number", "integer", "boolean", "category", "datetime", "timedelta"]
Dtype = Literal[
    "float64", "int64", "bool", "boolean", "object", "str", "string", "category", "datetime64", "timedelta64"
]
Value = float | int | bool | str | None
Reason = Literal["missing", "type", "range", "category"]
# The action for a row that violates the schema: reject it, or count the violation and predict the row.
ViolationAction = Literal["reject", "count"]
# How telemetry and the prediction store record a value; see `modeltrace.inference.privacy`.
PrivacyRule = Literal["plain", "hash", "bucket", "drop"]

REASONS: tuple[Reason, ...] = get_args(Reason)
PRIVACY_RULES: tuple[PrivacyRule, ...] = get_args(PrivacyRule)

# Rounding may raise a share above 1 by this amount.
SHARE_TOLERANCE = 1e-9
# Maximum number of characters of a text if the feature has no `max_length`.
DEFAULT_MAX_LENGTH = 65_536


class StrictModel(BaseModel):
    """Base class of everything that `model.json` contains: immutable, without unknown keys and infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reference(StrictModel):
    """The distribution of a feature in the training data, in the bins into which later traffic is counted.

    Numbers: bin `i` contains `edges[i-1] < x <= edges[i]`; its name is `00`, `01`, …. The other bins are `missing` and
    `other`, which contains no rows. Categories and booleans: one bin per frequent value, `missing`, `other` (the other
    values that the schema lists) and `unseen` (values that it does not list). A category with the name of one of these
    bins is counted in that bin. A private feature may lack bins. `shares` add up to 1, and `n` is the number of rows
    from which they were computed. `deviation` is the standard deviation.
    """

    n: int = Field(ge=1)
    shares: dict[str, float]
    edges: tuple[float, ...] | None = None
    mean: float | None = None
    deviation: float | None = Field(default=None, ge=0)

    @property
    def number_shares(self) -> list[float]:
        """The shares of the ordered bins; empty for categories and booleans."""
        n_bins = 0 if self.edges is None else len(self.edges) + 1
        return list(self.shares.values())[:n_bins]

    def has_valid_bins(self, more: Sequence[str]) -> bool:
        """Return whether the shares are valid and contain each bin of `edges` and each bin of `more`."""
        if not all(0 <= share <= 1 + SHARE_TOLERANCE for share in self.shares.values()):
            return False
        if self.edges is None:
            return set(more) <= self.shares.keys()
        increasing = all(low < high for low, high in pairwise(self.edges))
        return increasing and list(self.shares) == [*map(numeric_bin_name, range(len(self.edges) + 1)), *more]


class OutputReference(Reference):
    """The distribution of the model's own outputs, in the bins into which later outputs are counted.

    A classifier has one bin per class. A regressor has the bins of a numeric feature, without `missing` and `other`.
    """

    # The rows that the model predicted.
    source: Literal["training", "held_out", "cross_validation"] = "training"


class OnViolation(StrictModel):
    """The action for a value that violates the schema, by reason. Violations are counted with either action.

    With `count`, the row is predicted; `pack` has verified that the model accepts such a value. The model gets a
    missing value in place of a value of a wrong type.
    """

    missing: ViolationAction = "reject"
    type: ViolationAction = "reject"
    range: ViolationAction = "reject"
    category: ViolationAction = "reject"


class Feature(StrictModel):
    """A feature: its type, its valid values, and its distribution in the training data."""

    name: str = Field(min_length=1, max_length=256)
    type: FeatureType
    # The pandas dtype of the estimator's input column and, for the dtype `object`, how it represents a missing value.
    dtype: Dtype = "float64"
    missing_as: Literal["nan", "none"] = "nan"
    nullable: bool = False
    # `valid_range` is enforced; `training_range` only describes the values of the training data. Times are in seconds.
    valid_range: tuple[float, float] | None = None
    training_range: tuple[float, float] | None = None
    # For the dtype `category`: all levels, in the order of the estimator's column. Otherwise: the most frequent texts.
    categories: tuple[Level, ...] | None = None
    ordered: bool = False
    # For times and durations: the unit of the estimator's column, and the time zone of its times.
    unit: TimeUnit | None = None
    timezone: str | None = Field(default=None, min_length=1, max_length=64)
    enforce_categories: bool = False
    # Maximum number of characters of a text; `DEFAULT_MAX_LENGTH` if not set.
    max_length: int | None = Field(default=None, ge=1)
    on_violation: OnViolation = OnViolation()
    # A rule that this version does not know is rejected, never ignored.
    privacy: PrivacyRule = "plain"
    example: Value = None
    reference: Reference

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if has_control_characters(name):
            raise ValueError("a feature's name holds a control character")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.valid_range and self.valid_range[0] > self.valid_range[1]:
            raise ValueError(f"feature {self.name}: valid_range has a lower bound above its upper bound")
        if "count" in (self.on_violation.missing, self.on_violation.type) and self.dtype in ("int64", "bool"):
            raise ValueError(f"feature {self.name}: a column of {self.dtype} cannot have a missing value")
        if self.is_time != (self.unit is not None) or (self.timezone is not None and self.type != "datetime"):
            raise ValueError(f"feature {self.name}: times and durations have a unit, and only times a time zone")
        if self.privacy != "plain":
            self._check_privacy()
        unnamed = self.categories is None and self.privacy in ("hash", "drop")
        if (self.type == "category") != (self.categories is not None) and not unnamed:
            raise ValueError(f"feature {self.name}: a feature has categories if and only if it has the type category")
        levels = self.categories or ()
        kind = infer_level_kind(levels)
        if kind is None or (kind != "text" and self.dtype != "category") or len(self.level_codes) != len(levels):
            raise ValueError(
                f"feature {self.name}: categories are distinct texts, or values of one type (dtype category)"
            )
        return self

    def _check_privacy(self) -> None:
        """Reject a hand-written schema that contains values which its privacy rule forbids to disclose."""
        unnamed = self.privacy in ("hash", "drop") and self.reference.edges is None
        if self.training_range is not None or self.reference.mean is not None:
            raise ValueError(f"feature {self.name}: privacy {self.privacy} forbids training_range and mean")
        if unnamed and (self.categories or not self.reference.shares.keys() <= {MISSING, OTHER}):
            raise ValueError(f"feature {self.name}: privacy {self.privacy} forbids names of categories and bins")

    def has_valid_reference(self) -> bool:
        """Return whether the reference distribution fits the type, so that values can be counted into it."""
        numeric = self.type in ("number", "integer") or self.is_time
        low, high = self.training_range or (0.0, 0.0)
        return (
            low <= high
            and numeric == (self.reference.edges is not None)
            and self.reference.has_valid_bins((MISSING, OTHER))
        )

    @cached_property
    def level_kind(self) -> LevelKind | None:
        """The kind of a category's values; `None` for another type."""
        return infer_level_kind(self.categories or ()) if self.type == "category" else None

    @cached_property
    def is_time(self) -> bool:
        """Whether the values are times or durations."""
        return self.type in ("datetime", "timedelta")

    @cached_property
    def time_column(self) -> TimeColumn:
        """How the times or durations of the feature are represented."""
        assert self.type in ("datetime", "timedelta")  # noqa: S101  a feature with `is_time`
        assert self.unit is not None  # noqa: S101  checked by the validator
        return TimeColumn(self.type, self.unit, self.timezone)

    def range_text(self, bounds: tuple[float, float]) -> str:
        """Return `LOW to HIGH` for people: numbers, or times or durations."""
        low, high = (self.time_column.to_text(round(b * 1e6)) if self.is_time else f"{b:g}" for b in bounds)
        return f"{low} to {high}"

    @cached_property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return self.level_kind == "text"

    @cached_property
    def level_codes(self) -> dict[Level, int]:
        """The index of each level among the categories."""
        return {level: code for code, level in enumerate(self.categories or ())}

    @cached_property
    def level_dtype(self) -> Any:  # noqa: ANN401  a pandas dtype, which is not imported here
        """The pandas dtype of a `category` column in the training data, built once."""
        import pandas as pd  # noqa: PLC0415  reading a schema alone does not need it

        return pd.CategoricalDtype(list(self.categories or ()), ordered=self.ordered)

    @cached_property
    def max_text_length(self) -> int:
        """The number of characters that a text may have."""
        return self.max_length or DEFAULT_MAX_LENGTH

    @cached_property
    def accepts_missing(self) -> bool:
        """Whether the model accepts a missing value."""
        return self.nullable or "count" in (self.on_violation.missing, self.on_violation.type)


class Schema(StrictModel):
    """All features, in the order of the estimator's input columns."""

    features: tuple[Feature, ...] = Field(min_length=1)
    # The action for features that the model does not have.
    on_unknown: ViolationAction = "reject"

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len(set(self.names)) != len(self.features):
            raise ValueError("feature names must be unique")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def has_private_features(self) -> bool:
        """Whether at least one feature has values that must be redacted."""
        return any(feature.privacy != "plain" for feature in self.features)

    @cached_property
    def recorded_names(self) -> tuple[str, ...]:
        """The names of the features whose inputs a record of a prediction contains, in order."""
        return tuple(feature.name for feature in self.features if feature.privacy != "drop")

    @cached_property
    def name_set(self) -> frozenset[str]:
        """Feature names as a set."""
        return frozenset(self.names)

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of the JSON form without default values, so that fields of later versions do not change it."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @cached_property
    def is_numeric(self) -> bool:
        """Whether all features are numbers, integers, booleans or levels of these kinds."""
        return not any(feature.is_text or feature.is_time for feature in self.features)

    @cached_property
    def is_float64(self) -> bool:
        """Whether every feature is a `float64` column."""
        return all(feature.dtype == "float64" for feature in self.features)
