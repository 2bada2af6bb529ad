"""Estimators that begin with a text vectorizer. They accept a series of texts; other estimators accept a table."""

from collections.abc import Iterator
from typing import Any, Final

TEXT_VECTORIZERS: Final = ("CountVectorizer", "HashingVectorizer", "TfidfVectorizer")
_VECTORIZER_MODULE: Final = "sklearn.feature_extraction.text"


def accepts_texts(estimator: Any) -> bool:  # noqa: ANN401  any estimator
    """Return whether a fitted estimator accepts a series of texts.

    It does if it is a text vectorizer or passes its input to one unchanged, as a `Pipeline`, a `FeatureUnion` or a
    meta-estimator does, and was not fitted on a table with column names.
    """
    return not hasattr(estimator, "feature_names_in_") and _begins_with_vectorizer(estimator)


def to_input(estimator: Any, matrix: Any) -> Any:  # noqa: ANN401  any estimator; an array or a frame
    """Return the input of an estimator: the only column of `matrix` if it accepts texts, otherwise `matrix`."""
    return first_column(matrix) if accepts_texts(estimator) else matrix


def first_column(matrix: Any) -> Any:  # noqa: ANN401  an array or a frame
    """Return the first column of an array or a frame."""
    return matrix.iloc[:, 0] if hasattr(matrix, "iloc") else matrix[:, 0]


def _begins_with_vectorizer(estimator: Any) -> bool:  # noqa: ANN401  any estimator
    kind = type(estimator)
    if any(base.__module__ == _VECTORIZER_MODULE and base.__name__ in TEXT_VECTORIZERS for base in kind.__mro__):
        return True
    return any(_begins_with_vectorizer(part) for part in _first_parts(estimator))


def _first_parts(estimator: Any) -> Iterator[Any]:  # noqa: ANN401  any estimator
    """Yield the parts of an estimator that receive its input unchanged, or changed by a function only."""
    for _, step in getattr(estimator, "steps", ()):
        if step is not None and step != "passthrough" and type(step).__name__ != "FunctionTransformer":
            yield step
            break
    for name in ("transformer_list", "estimators"):  # the parts of a union, of a vote or a stack
        parts = getattr(estimator, name, ())
        yield from (part[1] for part in parts if isinstance(part, tuple))
    if (inner := getattr(estimator, "estimator", None)) is not None:
        yield inner
