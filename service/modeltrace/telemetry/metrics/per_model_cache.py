"""What is made once of each model, and found for every record."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Generic, TypeVar

from modeltrace.telemetry.records.prediction import ModelInfo

T = TypeVar("T")

# Models of which it is kept: those that one process serves, one after the other.
MAX_MODELS: Final = 64


class PerModelCache(Generic[T]):
    """For one thread at a time.

    Nearly every record has the model of the record before: the same object, so that nothing is to be looked up.
    """

    __slots__ = ("_found", "_latest", "_made")

    def __init__(self, make: Callable[[ModelInfo], T]) -> None:
        self._made = lru_cache(MAX_MODELS)(make)
        self._latest: ModelInfo | None = None
        self._found: T

    def __call__(self, model: ModelInfo) -> T:
        """What was made of this model."""
        if model is not self._latest:
            self._found, self._latest = self._made(model), model
        return self._found
