"""Read the true labels of a row of a file for the kind of its model."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from modeltrace.client.service import ServedModel
from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.scored_rows import to_model_label
from modeltrace.true_labels import StoredTrueLabel, of_cluster, of_outputs

# A label as a client sends it: of a model with several outputs, the known labels by name. `None`: there is none.
FileLabel: TypeAlias = object


class FileLabels:
    """Converts the columns with true labels to labels.

    Args:
        model: the model that predicts.
        targets: the columns with the true labels.

    Raises:
        ModeltraceError: the columns do not belong to the outputs of the model.
    """

    def __init__(self, model: ServedModel, targets: Sequence[str]) -> None:
        self._model = model
        self._outputs: dict[str, tuple[object, ...] | None] = {}
        if model.task != "multi_output":
            if len(targets) > 1:
                raise ModeltraceError(f"{model.name} has one output: name one column with --target")
            return
        classes = {output.name: output.classes for output in model.outputs}
        if set(targets) <= classes.keys():
            self._outputs = {name: classes[name] for name in targets}
        elif len(targets) == len(classes):
            self._outputs = dict(zip(classes, classes.values(), strict=True))
        else:
            raise ModeltraceError(
                f"{model.name} has the outputs {', '.join(classes)}: name their columns with --target, all of them in "
                "this order, or columns with these names"
            )

    def parse(self, value: object) -> FileLabel:
        """Return the label of a row.

        Args:
            value: the value of the column, or a tuple of those of several columns; `None` is an unknown label.

        Raises:
            LabelError: a value is not a possible output of the model.
        """
        if self._model.task == "multi_output":
            values = value if isinstance(value, tuple) else (value,)
            columns = zip(self._outputs.items(), values, strict=True)
            known = {name: to_model_label(value, classes) for (name, classes), value in columns if value is not None}
            return known or None
        if self._model.task == "clusterer":
            return value
        return to_model_label(value, self._model.classes)

    def to_stored(self, label: FileLabel) -> StoredTrueLabel | None:
        """Return the form in which the prediction store has a label; `None` if there is none."""
        if label is None:
            return None
        if isinstance(label, Mapping):
            kinds = {output.name: "values" if output.classes is None else "classes" for output in self._model.outputs}
            return of_outputs(kinds, label)  # type: ignore[arg-type]  # the kinds are literals
        return of_cluster(label) if self._model.task == "clusterer" else label  # type: ignore[arg-type, return-value]  # a JSON value
