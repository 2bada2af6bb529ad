"""Parse true labels, and check that they belong to a prediction of the model.

A prediction ID contains the predicted output, the time, the model version and the trace. A label can therefore be
parsed without the prediction store, which may not contain the prediction yet. The ID does not contain the name of the
model. If two services use the same key, one can therefore accept an ID of the other. It rejects the ID if only one of
the models is a classifier, or if the ID has the version of its own model and an unknown class.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from modeltrace.errors import InvalidLabelError, MalformedRequestError, UnknownPredictionError
from modeltrace.inference.model import Label, Model, class_key
from modeltrace.inference.named_outputs import Output
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef, hash_if_long
from modeltrace.inference.validate import MAX_FLOAT
from modeltrace.telemetry.records.feedback import OutputLabels, TrueLabel
from modeltrace.true_labels import OutputKind, StoredTrueLabel, of_cluster, of_outputs

KEYS: Final = frozenset(("prediction_id", "label"))
# Classes and outputs that an error message lists.
MAX_LISTED: Final = 10
# The longest true class of a clusterer's row. Other labels are those of the bundle.
MAX_CLASS_LENGTH: Final = 256


class ParsedLabel(NamedTuple):
    """A valid label: the value to store, and the record for telemetry."""

    label: StoredTrueLabel
    record: TrueLabel


class _Match(NamedTuple):
    """A label that belongs to a prediction: the value to store, and the values that telemetry records."""

    stored: StoredTrueLabel
    recorded: str | float | OutputLabels
    predicted: str | float


class LabelParser:
    """Parses the labels of the predictions of one model, of any version."""

    def __init__(self, model: Model, ids: PredictionIdSigner) -> None:
        self._ids = ids
        self._task = model.task
        self._has_true_labels = model.has_true_labels
        self._version = model.version
        self._version_in_ids = hash_if_long(model.version)
        self._classes = None if model.classes is None else by_key(model.classes)
        self._class_names = {hash_if_long(str(label)): str(label) for label in model.classes or ()}
        self._outputs = {output.name: output for output in model.outputs}

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
            raise InvalidLabelError(
                "the predictions of a transformer have no true labels, because no embedding is right or wrong: send "
                "the labels of the model that uses the embedding"
            )
        version = self._version if ref.model_version == self._version_in_ids else ref.model_version
        match = self._match(ref, item["label"])
        trace_id, span_id = ref.trace_id.to_bytes(16), ref.span_id.to_bytes(8)
        record = TrueLabel(
            item["prediction_id"],
            trace_id,
            span_id,
            ref.time_unix_ns,
            version,
            match.recorded,
            match.predicted,
            self._task == "clusterer",
        )
        return ParsedLabel(match.stored, record)

    def _match(self, ref: PredictionRef, label: object) -> _Match:
        if self._task == "multi_output":
            if ref.output != "":
                raise UnknownPredictionError("a prediction ID of another model")
            known = parse_outputs(label, self._outputs)
            kinds: dict[str, OutputKind] = {
                name: "values" if output.classes is None else "classes" for name, output in self._outputs.items()
            }
            return _Match(of_outputs(kinds, known), known, "")
        if (self._classes is None) == isinstance(ref.output, str):
            raise UnknownPredictionError("a prediction ID of another model")
        if self._classes is None:
            value = parse_number(label, "the label of a regressor's prediction")
            return _Match(value, value, ref.output)
        predicted = self._class_names.get(str(ref.output))
        if predicted is None and ref.model_version == self._version_in_ids:
            raise UnknownPredictionError("a prediction ID of another model")
        predicted = predicted or str(ref.output)
        if self._task == "clusterer":
            true_class = parse_true_class(label)
            return _Match(of_cluster(true_class), str(true_class), predicted)
        known_class = parse_class(label, self._classes, "the label")
        return _Match(known_class, str(known_class), predicted)


def by_key(classes: tuple[Label, ...]) -> Mapping[tuple[bool, object], Label]:
    """Return classes by the key of `class_key`."""
    return {class_key(label): label for label in classes}


def parse_class(label: object, classes: Mapping[tuple[bool, object], Label], subject: str) -> Label:
    """Return the class that a label equals.

    Raises:
        InvalidLabelError: it equals none; the message begins with `subject`.
    """
    known = classes.get(class_key(label)) if isinstance(label, str | int | float) else None
    if known is None:
        raise InvalidLabelError(f"{subject} is none of the model's classes: {_list(map(repr, classes.values()))}")
    return known


def parse_number(label: object, subject: str) -> float:
    """Return a label as a number.

    Raises:
        InvalidLabelError: it is not a number in the range of a float32; the message begins with `subject`.
    """
    if isinstance(label, bool) or not isinstance(label, int | float):
        raise InvalidLabelError(f"{subject} is a number")
    if not -MAX_FLOAT <= label <= MAX_FLOAT:
        raise InvalidLabelError(f"{subject} is a finite number in the range of a float32")
    return float(label)


def parse_true_class(label: object) -> Label:
    """Return the true class of a clusterer's row. It is any label, because the bundle does not know the classes.

    Raises:
        InvalidLabelError: it is no label, or a long text.
    """
    is_number = isinstance(label, int | float)
    if is_number and -MAX_FLOAT <= label <= MAX_FLOAT:  # type: ignore[operator]  # see `is_number`
        return label  # type: ignore[return-value]  # see `is_number`
    if isinstance(label, str) and len(label) <= MAX_CLASS_LENGTH:
        return label
    raise InvalidLabelError(
        "the label of a clusterer's prediction is the true class of the row: a boolean, a number in the range of a "
        f"float32, or a text of at most {MAX_CLASS_LENGTH} characters"
    )


def parse_outputs(label: object, outputs: Mapping[str, Output]) -> OutputLabels:
    """Return the true labels of several outputs by name.

    Args:
        label: a list with a label for each output, or an object with labels by name. Null is an unknown label.
        outputs: the outputs of the model, by name.

    Raises:
        InvalidLabelError: the label has another form, has no known label, or one that an output cannot predict.
    """
    if isinstance(label, list) and len(label) == len(outputs):
        label = dict(zip(outputs, label, strict=True))
    if not isinstance(label, dict) or not label.keys() <= outputs.keys():
        raise InvalidLabelError(
            f"the label of a model with several outputs is a list with {len(outputs)} labels, or an object with labels "
            f"by name. Its outputs are {_list(outputs)}"
        )
    known = {
        name: _parse_output(label[name], output) for name, output in outputs.items() if label.get(name) is not None
    }
    if not known:
        raise InvalidLabelError("the label has no true label of any output")
    return known


def _parse_output(label: object, output: Output) -> Label:
    subject = f"the label of {output.name}"
    return (
        parse_number(label, subject) if output.classes is None else parse_class(label, by_key(output.classes), subject)
    )


def _list(names: Iterable[str]) -> str:
    texts = [*names]
    more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(texts[:MAX_LISTED]) + more
