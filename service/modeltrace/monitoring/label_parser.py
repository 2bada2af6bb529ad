"""Parse true labels, and check that they belong to a prediction of the model.

A prediction ID contains the predicted output, the time, the model version and the trace. A label can therefore be
parsed without the prediction store, which may not contain the prediction yet. The ID does not contain the name of the
model. If two services use the same key, one can therefore accept an ID of the other. It rejects the ID if only one of
the models is a classifier, or if the ID has the version of its own model and an unknown class.
"""

from typing import Final, NamedTuple

from modeltrace.errors import InvalidLabelError, MalformedRequestError, UnknownPredictionError
from modeltrace.inference.model import Label, Model, class_key
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef, hash_if_long
from modeltrace.inference.tasks import TASK_NAMES
from modeltrace.inference.validate import MAX_FLOAT
from modeltrace.telemetry.records.feedback import TrueLabel

KEYS: Final = frozenset(("prediction_id", "label"))
# Classes that an error message lists.
MAX_LISTED_CLASSES: Final = 10


class ParsedLabel(NamedTuple):
    """A valid label: the value to store, and the record for telemetry."""

    label: Label
    record: TrueLabel


class LabelParser:
    """Parses the labels of the predictions of one model, of any version."""

    def __init__(self, model: Model, ids: PredictionIdSigner) -> None:
        self._ids = ids
        self._task = model.task
        self._has_true_labels = model.has_true_labels
        self._version = model.version
        self._version_in_ids = hash_if_long(model.version)
        self._classes = None if model.classes is None else {class_key(label): label for label in model.classes}
        self._class_names = {hash_if_long(str(label)): str(label) for label in model.classes or ()}

    def parse(self, item: object) -> ParsedLabel:
        """Parse `{"prediction_id", "label"}`.

        Raises:
            MalformedRequestError: the item does not have this form.
            UnknownPredictionError: the ID is of another service or model.
            InvalidLabelError: the model cannot predict this label, or its predictions have no true labels.
        """
        if not isinstance(item, dict) or item.keys() != KEYS or not isinstance(item["prediction_id"], str):
            raise MalformedRequestError(
                'a label must be {"prediction_id": string, "label": true label}, or the same with "id" instead of '
                '"prediction_id", without other keys'
            )
        ref = self._ids.verify(item["prediction_id"])
        if not self._has_true_labels:
            raise InvalidLabelError(f"the predictions of {TASK_NAMES[self._task]} have no true labels")
        version = self._version if ref.model_version == self._version_in_ids else ref.model_version
        label, recorded, predicted = self._match(ref, item["label"])
        trace_id, span_id = ref.trace_id.to_bytes(16), ref.span_id.to_bytes(8)
        record = TrueLabel(item["prediction_id"], trace_id, span_id, ref.time_unix_ns, version, recorded, predicted)
        return ParsedLabel(label, record)

    def _match(self, ref: PredictionRef, label: object) -> tuple[Label, str | float, str | float]:
        """Return the label to store, the label as telemetry records it, and the predicted output."""
        if (self._classes is None) == isinstance(ref.output, str):
            raise UnknownPredictionError("a prediction ID of another model")
        if self._classes is None:
            value = _parse_value(label)
            return value, value, ref.output
        predicted = self._class_names.get(str(ref.output))
        if predicted is None and ref.model_version == self._version_in_ids:
            raise UnknownPredictionError("a prediction ID of another model")
        known = self._classes.get(class_key(label)) if isinstance(label, str | int | float) else None
        if known is None:
            classes = [repr(known) for known in self._classes.values()]
            more = f" and {len(classes) - MAX_LISTED_CLASSES} more" if len(classes) > MAX_LISTED_CLASSES else ""
            listed = ", ".join(classes[:MAX_LISTED_CLASSES])
            raise InvalidLabelError(f"the label is none of the model's classes: {listed}{more}")
        return known, str(known), predicted or str(ref.output)


def _parse_value(label: object) -> float:
    if isinstance(label, bool) or not isinstance(label, int | float):
        raise InvalidLabelError("the label of a regressor's prediction is a number")
    if not -MAX_FLOAT <= label <= MAX_FLOAT:
        raise InvalidLabelError("the label of a regressor's prediction is a finite number in the range of a float32")
    return float(label)
