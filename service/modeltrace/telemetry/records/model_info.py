"""The model of a record: its identity, its attributes in telemetry, and values that are computed once per model."""

from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from modeltrace.bin_names import numeric_bin_name
from modeltrace.telemetry.names import (
    ML_MODEL_HASH,
    ML_MODEL_NAME,
    ML_MODEL_ROLE,
    ML_MODEL_VERSION,
    ML_PREDICTION_BIN,
    ML_PREDICTION_LABEL,
)

T = TypeVar("T")
Label = str | float | int | bool

MAX_MODELS: Final = 64  # models that one process serves during its life


class Output(Protocol):
    """The output of a model for one row: `modeltrace.telemetry.records.prediction.PredictedRow`."""

    @property
    def label(self) -> Label | None:
        """The label; `None` if the model predicts none."""

    @property
    def confidence(self) -> float | None:
        """The predicted probability of the label."""

    @property
    def value(self) -> float | None:
        """The value that a regressor predicts."""


class ModelInfo(NamedTuple):
    """Identity of a model, and metadata that describes its predictions."""

    name: str
    version: str
    hash: str
    features: tuple[str, ...]  # names of `PredictedRow.inputs` after redaction, in their order
    schema_hash: str = ""  # of its feature schema; "": unknown
    role: str = ""  # `primary` or `challenger`; "": no other version is served
    value_edges: tuple[float, ...] = ()  # between the bins of a regressor's predictions
    low_confidence: float | None = None  # predictions with less confidence are counted separately
    classes: tuple[Label | None, ...] = ()  # of `PredictedRow.probabilities`, in their order; empty: not recorded
    outputs: tuple[str, ...] = ()  # names of `PredictedRow.outputs`, in their order
    interval_level: float | None = None  # the probability with which a `PredictedRow.interval` encloses the true label

    def __hash__(self) -> int:
        """Hash the fields that distinguish models. Each record needs a hash, and hashing all fields takes longer."""
        return hash((self.version, self.hash, self.role))

    def outcome(self, row: Output) -> Label | None:
        """Return the outcome that metrics count: the label, or the bin of the value; `None` without bins."""
        if row.value is None:
            return row.label
        return numeric_bin_name(bisect_left(self.value_edges, row.value)) if self.value_edges else None

    def outcome_attributes(self, row: Output) -> dict[str, str]:
        """Return the outcome as an attribute of metric points."""
        outcome = self.outcome(row)
        return (
            {} if outcome is None else {ML_PREDICTION_LABEL if row.value is None else ML_PREDICTION_BIN: str(outcome)}
        )

    def is_low_confidence(self, row: Output) -> bool:
        """Whether the confidence of a prediction is below the bundle's threshold."""
        threshold, confidence = self.low_confidence, row.confidence
        return threshold is not None and confidence is not None and confidence < threshold

    def metric_attributes(self) -> dict[str, str]:
        """Return the attributes of metric points of the model."""
        return {ML_MODEL_NAME: self.name, ML_MODEL_VERSION: self.version}

    def span_attributes(self) -> dict[str, str]:
        """Return the attributes of spans of the model's requests."""
        return {**self.metric_attributes(), **({ML_MODEL_ROLE: self.role} if self.role else {})}

    def log_attributes(self) -> dict[str, str]:
        """Return the attributes of log records of the model's predictions."""
        return {**self.span_attributes(), ML_MODEL_HASH: self.hash}


class PerModelCache(Generic[T]):
    """Calls a function once for each model. Not thread-safe.

    Nearly every record has the same model object as the previous record, so the look-up is an identity check.
    """

    __slots__ = ("_cached", "_latest", "_value")

    def __init__(self, function: Callable[[ModelInfo], T]) -> None:
        self._cached = lru_cache(MAX_MODELS)(function)
        self._latest: ModelInfo | None = None
        self._value: T

    def __call__(self, model: ModelInfo) -> T:
        """Return the function's value for a model."""
        if model is not self._latest:
            self._value, self._latest = self._cached(model), model
        return self._value
