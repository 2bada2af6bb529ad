"""Labels by external ID: find the prediction of a label in the prediction store."""

from collections.abc import Mapping, Sequence
from typing import Final

from modeltrace.errors import AmbiguousIdError, UnknownPredictionError
from modeltrace.inference.external_ids import parse_external_id
from modeltrace.store.label_writer import LabelWriter

KEYS: Final = frozenset(("id", "label"))

# For each external ID, the number of predictions that have it, and the prediction ID of one of them.
Matches = Mapping[str, tuple[int, str]]


def external_id(item: object) -> str | None:
    """Return the external ID of a label; `None` if the label has a prediction ID, or another form."""
    if not isinstance(item, dict) or item.keys() != KEYS or not isinstance(item["id"], str):
        return None
    return item["id"]


def find_matches(items: Sequence[object], model_name: str, label_writer: LabelWriter) -> Matches:
    """Find the predictions of all labels with an external ID, with one query.

    Raises:
        LabelStoreUnavailableError: the store cannot be read.
    """
    ids = {item_id for item in items if (item_id := external_id(item)) is not None}
    return label_writer.find_by_external_id(sorted(ids), model_name) if ids and label_writer.has_store else {}


def resolve(item: object, matches: Matches, *, has_store: bool) -> object:
    """Return a label with the prediction ID instead of the external ID; return any other item unchanged.

    Raises:
        MalformedRequestError: the external ID is invalid.
        UnknownPredictionError: no prediction has this external ID, or there is no store.
        AmbiguousIdError: several predictions have this external ID.
    """
    if not isinstance(item, dict) or item.keys() != KEYS:
        return item
    item_id = parse_external_id(item["id"])
    if not has_store:
        raise UnknownPredictionError(
            "a label by id needs the prediction store, which is disabled (MODELTRACE_STORE=none); send the "
            "prediction_id of the response instead"
        )
    number, prediction_id = matches.get(item_id, (0, ""))
    if not number:
        raise UnknownPredictionError(
            "no stored prediction of this model has this id; a prediction is stored within a second after its response"
        )
    if number > 1:
        raise AmbiguousIdError(
            f"{number} predictions have this id; send the prediction_id of the one that the label belongs to"
        )
    return {"prediction_id": prediction_id, "label": item["label"]}
