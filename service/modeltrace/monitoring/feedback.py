"""True labels as they are sent: whose they are, and whether the model could have answered them.

A prediction ID says by itself what was predicted, when, by which version and under which trace, so a label is read
without a look into the prediction store, whose row may still be on its way. Models are told apart by their answers
alone: an ID of another model that is signed with the same key passes for one of an older version if its label is one
of this model's classes.
"""

from typing import Final, NamedTuple

from modeltrace.errors import InvalidLabelError, MalformedRequestError, UnknownPredictionError
from modeltrace.inference.model import Label, Model, class_key
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef, hash_if_long
from modeltrace.inference.validate import MAX_FLOAT
from modeltrace.telemetry.records.feedback import TrueLabel

KEYS: Final = frozenset(("prediction_id", "label"))
# Classes that an error names.
MAX_LISTED_CLASSES: Final = 10


class ParsedLabel(NamedTuple):
    """A label that can be taken: as it is stored, and as telemetry tells it."""

    label: Label
    record: TrueLabel


class LabelParser:
    """Reads the labels of one model's predictions, of whichever version."""

    def __init__(self, model: Model, ids: PredictionIdSigner) -> None:
        self._ids = ids
        self._version = hash_if_long(model.version), model.version
        self._classes = None if model.classes is None else {class_key(one): one for one in model.classes}
        self._answers = {hash_if_long(str(one)): str(one) for one in model.classes or ()}

    def parse(self, item: object) -> ParsedLabel:
        """Read `{"prediction_id", "label"}`.

        Raises:
            MalformedRequestError: it is not of that form.
            UnknownPredictionError: the ID is none of this service's.
            InvalidLabelError: the model cannot answer that.
        """
        if not isinstance(item, dict) or item.keys() != KEYS or not isinstance(item["prediction_id"], str):
            raise MalformedRequestError('a label is {"prediction_id": text, "label": the true answer}, and no more')
        ref = self._ids.verify(item["prediction_id"])
        version = self._version[1] if ref.model_version == self._version[0] else ref.model_version
        label, said, predicted = self._judged(ref, item["label"])
        trace_id, span_id = ref.trace_id.to_bytes(16), ref.span_id.to_bytes(8)
        told = TrueLabel(item["prediction_id"], trace_id, span_id, ref.time_unix_ns, version, said, predicted)
        return ParsedLabel(label, told)

    def _judged(self, ref: PredictionRef, label: object) -> tuple[Label, str | float, str | float]:
        """The label, it as telemetry has it, and what was predicted."""
        if (self._classes is None) == isinstance(ref.output, str):
            raise UnknownPredictionError("a prediction ID of another model")
        if self._classes is None:
            value = _number(label)
            return value, value, ref.output
        predicted = self._answers.get(str(ref.output))
        if predicted is None and ref.model_version == self._version[0]:
            raise UnknownPredictionError("a prediction ID of another model")
        known = self._classes.get(class_key(label)) if isinstance(label, str | int | float) else None
        if known is None:
            raise InvalidLabelError(f"the label is none of the model's classes: {self._named()}")
        return known, str(known), predicted or str(ref.output)

    def _named(self) -> str:
        classes = [repr(one) for one in (self._classes or {}).values()]
        more = len(classes) - MAX_LISTED_CLASSES
        return ", ".join(classes[:MAX_LISTED_CLASSES]) + (f" and {more} more" if more > 0 else "")


def _number(label: object) -> float:
    if isinstance(label, bool) or not isinstance(label, int | float):
        raise InvalidLabelError("the label of a regressor's prediction is a number")
    if not -MAX_FLOAT <= label <= MAX_FLOAT:
        raise InvalidLabelError("the label of a regressor's prediction is a finite number that a model can answer")
    return float(label)
