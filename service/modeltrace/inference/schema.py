"""The feature schema of a bundle: what each feature must be, and what it was in training."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modeltrace.inference.levels import Level, LevelKind, infer_level_kind
from modeltrace.printable import has_control_characters

FeatureType = Literal["number", "integer", "boolean", "category"]
Dtype = Literal["float64", "int64", "bool", "boolean", "object", "str", "string", "category"]
Value = float | int | bool | str | None
Reason = Literal["missing", "type", "range", "category"]
# What becomes of a value that breaks the schema: its row is refused, or answered all the same.
ViolationAction = Literal["reject", "count"]
# What telemetry and the prediction store are told of a value: `modeltrace.inference.privacy` says what each does.
PrivacyRule = Literal["plain", "hash", "bucket", "drop"]

REASONS: tuple[Reason, ...] = get_args(Reason)
PRIVACY_RULES: tuple[PrivacyRule, ...] = get_args(PrivacyRule)

MISSING = "missing"
OTHER = "other"
# What a share may be above 1.
SHARE_TOLERANCE = 1e-9
# Characters that a text may have where the schema does not say.
DEFAULT_MAX_LENGTH = 65_536


class Reference(BaseModel):
    """The distribution of a feature in the training data, in bins that later traffic is counted into.

    Numbers: `edges` are the inner bounds (training deciles, equal ones merged, 1 to 9), bin `i` holds
    `edges[i-1] < x <= edges[i]` and is called `00`, `01`, …. Categories and booleans: one bin a value. `missing` and
    `other` (a value never seen, or not among the bins) follow; a category of that very name counts there, too. Shares
    add up to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n: int = Field(ge=1)
    shares: dict[str, float]
    edges: tuple[float, ...] | None = None
    mean: float | None = None
    deviation: float | None = Field(default=None, ge=0)  # standard deviation; not in bundles of before it was kept

    def has_valid_bins(self, more: Sequence[str]) -> bool:
        """Whether there is a share for each bin: of numbers between the edges, otherwise by name, and for `more`."""
        if not all(0 <= share <= 1 + SHARE_TOLERANCE for share in self.shares.values()):
            return False
        if self.edges is None:
            return set(more) <= self.shares.keys()
        increasing = all(low < high for low, high in pairwise(self.edges))
        return increasing and list(self.shares) == [*(f"{bin_:02d}" for bin_ in range(len(self.edges) + 1)), *more]


class OutputReference(Reference):
    """The distribution of what the model itself answers, in bins that later answers are counted into.

    A classifier: one bin a class. A regressor: bins between the deciles of its values, as a feature has them.
    """

    # Which rows it answered.
    source: Literal["training", "held_out"] = "training"


class OnViolation(BaseModel):
    """What becomes of a row with a value that breaks the schema, by reason; either way it is counted.

    `count` is a promise of the packer that the model can take it: it was asked. A value of a wrong type is given to it
    as missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing: ViolationAction = "reject"
    type: ViolationAction = "reject"
    range: ViolationAction = "reject"
    category: ViolationAction = "reject"


class Feature(BaseModel):
    """One feature: its type, what values it may have, and its distribution in training."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=256)
    type: FeatureType
    # The column that the estimator is given: its pandas dtype, and, in one of objects, how a missing value looks.
    dtype: Dtype = "float64"
    missing_as: Literal["nan", "none"] = "nan"
    nullable: bool = False
    # What is enforced. Training data shows what happened to occur, which is not the same.
    valid_range: tuple[float, float] | None = None
    training_range: tuple[float, float] | None = None
    # Of a column of the dtype `category`: all levels, in the order that the estimator knows. Else texts, the frequent.
    categories: tuple[Level, ...] | None = None
    ordered: bool = False
    enforce_categories: bool = False
    # Characters that a text may have; `max_text_length` where it is not set.
    max_length: int | None = Field(default=None, ge=1)
    on_violation: OnViolation = OnViolation()
    # One that is not known to this version is refused, never ignored.
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
            raise ValueError(f"feature {self.name}: valid_range ends before it begins")
        if "count" in (self.on_violation.missing, self.on_violation.type) and self.dtype in ("int64", "bool"):
            raise ValueError(f"feature {self.name}: a column of {self.dtype} cannot have a missing value")
        if self.privacy != "plain":
            self._check_privacy()
        unnamed = self.categories is None and self.privacy in ("hash", "drop")
        if (self.type == "category") != (self.categories is not None) and not unnamed:
            raise ValueError(f"feature {self.name}: categories belong to the type category, and only to it")
        levels = self.categories or ()
        kind = infer_level_kind(levels)
        if kind is None or (kind != "text" and self.dtype != "category") or len(self.level_codes) != len(levels):
            raise ValueError(f"feature {self.name}: categories are different texts; of the dtype category, of one type")
        return self

    def _check_privacy(self) -> None:
        """A schema that was written by hand must not say what its rule forbids."""
        unnamed = self.privacy in ("hash", "drop") and self.reference.edges is None
        if self.training_range is not None or self.reference.mean is not None:
            raise ValueError(f"feature {self.name}: with privacy {self.privacy} it has neither training_range nor mean")
        if unnamed and (self.categories or not self.reference.shares.keys() <= {MISSING, OTHER}):
            raise ValueError(f"feature {self.name}: with privacy {self.privacy} no category and no bin is named")

    def has_valid_reference(self) -> bool:
        """Whether the distribution is one of this type, as whoever counts and compares needs it."""
        numeric = self.type in ("number", "integer")
        low, high = self.training_range or (0.0, 0.0)
        return (
            low <= high
            and numeric == (self.reference.edges is not None)
            and self.reference.has_valid_bins((MISSING, OTHER))
        )

    @cached_property
    def level_kind(self) -> LevelKind | None:
        """What a category's values are; `None` for another type."""
        return infer_level_kind(self.categories or ()) if self.type == "category" else None

    @cached_property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.level_kind == "text"

    @cached_property
    def level_codes(self) -> dict[Level, int]:
        """The place of each level among the categories."""
        return {level: code for code, level in enumerate(self.categories or ())}

    @cached_property
    def level_dtype(self) -> Any:  # noqa: ANN401  a pandas dtype, which is not imported here
        """The pandas dtype that a column of the dtype `category` had in training, built once."""
        import pandas as pd  # noqa: PLC0415  whoever only reads a schema does without

        return pd.CategoricalDtype(list(self.categories or ()), ordered=self.ordered)

    @cached_property
    def max_text_length(self) -> int:
        """Characters that a text may have."""
        return self.max_length or DEFAULT_MAX_LENGTH

    @cached_property
    def accepts_missing(self) -> bool:
        """Whether the model may be asked without a value."""
        return self.nullable or "count" in (self.on_violation.missing, self.on_violation.type)


class Schema(BaseModel):
    """All features, in the order in which the estimator takes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[Feature, ...] = Field(min_length=1)
    # Of features that the model does not have.
    on_unknown: ViolationAction = "reject"

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len(set(self.names)) != len(self.features):
            raise ValueError("two features have the same name")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def has_private_features(self) -> bool:
        """Whether there is a feature whose values must not be told."""
        return any(feature.privacy != "plain" for feature in self.features)

    @cached_property
    def recorded_names(self) -> tuple[str, ...]:
        """The features that may be mentioned beside a prediction, in order."""
        return tuple(feature.name for feature in self.features if feature.privacy != "drop")

    @cached_property
    def name_set(self) -> frozenset[str]:
        """Feature names, for look-ups."""
        return frozenset(self.names)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of its JSON, without what is as it is by default: what later versions add changes no hash."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @cached_property
    def is_numeric(self) -> bool:
        """Whether every feature is a number, an integer or a boolean; levels that are one of them count as such."""
        return not any(feature.is_text for feature in self.features)

    @cached_property
    def is_float64(self) -> bool:
        """Whether every feature is a column of floats."""
        return all(feature.dtype == "float64" for feature in self.features)
