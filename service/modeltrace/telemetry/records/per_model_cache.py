"""A cache of values that are computed once per model and needed for every record."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Generic, TypeVar

from modeltrace.telemetry.records.prediction import ModelInfo

T = TypeVar("T")

MAX_MODELS: Final = 64  # models that one process serves during its life


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
