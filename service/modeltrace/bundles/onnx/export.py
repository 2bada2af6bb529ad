"""Export an estimator to ONNX and verify that the exported model returns the same outputs on reference data."""

import math
import re
import warnings
from collections.abc import Sequence
from typing import Any, get_args

from sklearn.compose import ColumnTransformer

from modeltrace.bundles.manifest import OnnxFile
from modeltrace.bundles.onnx.model import NUMERIC_INPUT, TEXT_INPUT, Precision, open_session, session_predict_fns
from modeltrace.bundles.quantile_models import value_estimator
from modeltrace.bundles.tree_validation import walk_objects
from modeltrace.errors import BundleError, PackError
from modeltrace.inference.allowed_violations import unseen_category
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import ModelOutput, PredictFn
from modeltrace.inference.predict_fns import make_predict_fn, predicts_argmax
from modeltrace.inference.schema import Feature, Schema, Value
from modeltrace.inference.task_fns import classes_of
from modeltrace.inference.tasks import Task
from modeltrace.inference.validate import Values

ONNX_FILE = "model.onnx"
# The largest difference of confidences, or of values relative to the largest one.
TOLERANCE = 1e-6
# Rows that are also predicted one by one, because ONNX Runtime has different kernels for one row and for many rows.
MAX_SINGLE_ROWS = 100
OPSETS = {"": 21, "ai.onnx.ml": 3}
REMEDY = "pack it without --onnx and serve it with scikit-learn"


class _DiffersError(Exception):
    """The exported model returns other outputs than the estimator."""


def export_onnx(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    schema: Schema,
    rows: Sequence[Values],
    *,
    as_frame: bool,
) -> tuple[OnnxFile, bytes]:
    """Export an estimator to ONNX, in double precision if possible, otherwise in single precision, and verify it.

    Args:
        estimator: a fitted estimator.
        task: its task.
        schema: the schema of its features.
        rows: reference rows, with values in the order of the schema. For each row, both models must return the same
            label, and confidences or values that differ by no more than `TOLERANCE`. For values that the training data
            does not contain, both models must return the same output, or both must fail.
        as_frame: whether the estimator was fitted on DataFrames.

    Returns:
        The entry of the manifest, and the content of the file.

    Raises:
        PackError: the estimator cannot be exported, or the outputs differ; the message says why, or by how much.
    """
    try:
        import skl2onnx  # noqa: F401, PLC0415  an extra; packing without --onnx does not need it
    except ImportError:
        raise PackError("--onnx needs the converter: pip install 'modeltrace[onnx]'") from None
    for feature in schema.features:
        if feature.is_time:
            raise PackError(f"ONNX has no times and durations, and {feature.name} is one; {REMEDY}")
        if feature.is_text and feature.accepts_missing:
            raise PackError(f"ONNX has no missing texts, and {feature.name} may be missing; {REMEDY}")
    # Warnings of skl2onnx and scikit-learn do not matter, because the outputs are verified.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _export(estimator, task, schema, rows, as_frame=as_frame)


def _export(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    schema: Schema,
    rows: Sequence[Values],
    *,
    as_frame: bool,
) -> tuple[OnnxFile, bytes]:
    kind = type(estimator).__name__
    try:
        expected = _ReferenceOutputs(make_predict_fn(estimator, task), schema, rows, as_frame=as_frame)
    except Exception as error:
        raise PackError(f"the {kind} itself cannot predict rows of the training data: {_describe(error)}") from error
    classes = classes_of(estimator, task)
    has_outputs = classes is not None and expected.batch[0].outputs is not None
    failures: list[Exception] = []
    for precision in get_args(Precision):
        try:
            model = _convert(estimator, task, schema, precision, as_frame=as_frame)
            raw = model.SerializeToString(deterministic=True)
            session = open_session(raw, "the exported model")
            predict = session_predict_fns(session, task, classes, schema, has_outputs=has_outputs).predict
            difference = _compare(expected, _ReferenceOutputs(predict, schema, rows, as_frame=False))
        except Exception as error:  # noqa: BLE001  skl2onnx raises any type
            failures.append(error)
            continue
        file = OnnxFile.describe(
            ONNX_FILE,
            raw,
            opset={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
            precision=precision,
            verified_rows=len(rows),
            max_difference=difference,
        )
        return file, raw
    # Prefer an error about different outputs, because it is more informative than a failed conversion.
    reason = next((error for error in failures if isinstance(error, _DiffersError)), failures[0])
    raise PackError(f"the {kind} cannot be served by ONNX Runtime: {_describe(reason)}; {REMEDY}")


def _describe(error: Exception) -> str:
    if isinstance(error, _DiffersError | BundleError):
        return str(error)
    if type(error).__name__ in ("MissingShapeCalculator", "MissingConverter") and (
        unknown := re.search(r"<class '([\w.]+)'>", str(error))
    ):
        return f"skl2onnx cannot convert {unknown[1]}"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300].rstrip('.')}" if lines else type(error).__name__


class _ReferenceOutputs:
    """The outputs of a model for reference rows: as one batch, row by row, and with values not in the training data.

    `None` stands for a failure of the model. Failures are compared, too, because a request could cause them.
    """

    def __init__(self, predict: PredictFn, schema: Schema, rows: Sequence[Values], *, as_frame: bool) -> None:
        def predict_single(row: Values) -> ModelOutput | None:
            try:
                return predict(to_matrix([row], schema, as_frame=as_frame))[0]
            except Exception:  # noqa: BLE001  an estimator raises any type
                return None

        self.batch = predict(to_matrix(rows, schema, as_frame=as_frame))
        self.single = [predict_single(row) for row in rows[:MAX_SINGLE_ROWS]]
        self.unseen = [
            (feature.name, predict_single((*rows[0][:index], value, *rows[0][index + 1 :])))
            for index, feature in enumerate(schema.features)
            for value in _unseen_values(feature)
        ]


def _unseen_values(feature: Feature) -> list[Value]:
    """Return values that the schema accepts and the training data does not contain."""
    if feature.type == "category":
        rejected = feature.enforce_categories and feature.on_violation.category == "reject"
        unseen = unseen_category(feature)
        return [] if rejected or unseen is None else [unseen]
    if feature.training_range is None:
        return []
    low, high = feature.training_range
    margin = high - low + 1
    enforced = feature.valid_range if feature.on_violation.range == "reject" else None
    lowest, highest = enforced or (-math.inf, math.inf)
    return [value for value in (low - margin, high + margin) if lowest <= value <= highest]


def _compare(expected: _ReferenceOutputs, actual: _ReferenceOutputs) -> float:
    """Return the largest difference between confidences, or between values relative to the largest one.

    Raises:
        _DiffersError: the difference is too large, or a label differs.
    """
    scale = max((abs(number) for output in expected.batch for number in output.numbers), default=1.0) or 1.0
    batch = [_difference(*pair, scale) for pair in zip(expected.batch, actual.batch, strict=True)]
    single = [_difference(*pair, scale) for pair in zip(expected.single, actual.single, strict=True)]
    largest = max(batch + single)
    if largest > TOLERANCE:
        labels = sum(own.label != other.label for own, other in zip(expected.batch, actual.batch, strict=True))
        too_large = [difference for difference in batch if difference > TOLERANCE]
        most = max((difference for difference in too_large if math.isfinite(difference)), default=0.0)
        raise _DiffersError(
            f"of {len(batch):,} rows of the training data, {labels:,} get another label and "
            f"{len(too_large) - labels:,} the same label with another number (by up to {most:.2g}; the tolerance is "
            f"{TOLERANCE:g})" + ("" if too_large else "; predicted one by one, some rows get another output")
        )
    for (name, own), (_, other) in zip(expected.unseen, actual.unseen, strict=True):
        value_scale = scale if own is None else max(scale, *map(abs, own.numbers), 0.0)
        if _difference(own, other, value_scale) > TOLERANCE:
            raise _DiffersError(
                f"a value of {name} that the training data does not have is not treated as scikit-learn treats it "
                "(--strict-categories and --range reject such values)"
            )
    return largest


def _difference(own: ModelOutput | None, other: ModelOutput | None, scale: float) -> float:
    """Return the difference of two outputs; infinite if the labels differ or only one output exists."""
    if own is None or other is None or own.label != other.label:
        return 0.0 if own is other else math.inf
    if own.numbers:
        pairs = zip(own.numbers, other.numbers, strict=True)
        return max(abs(number - exported) for number, exported in pairs) / scale
    if own.confidence is None or other.confidence is None:
        return 0.0 if own.confidence is other.confidence else math.inf
    return abs(own.confidence - other.confidence)


def _convert(estimator: Any, task: Task, schema: Schema, precision: Precision, *, as_frame: bool) -> Any:  # noqa: ANN401  estimator, onnx.ModelProto
    """Return one graph with the inputs and outputs that `modeltrace.bundles.onnx.model` requires."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType  # noqa: PLC0415  an extra

    number = DoubleTensorType if precision == "float64" else FloatTensorType
    # An estimator that selects columns by their names needs one input per column.
    selects_columns = as_frame and any(isinstance(part, ColumnTransformer) for part in walk_objects(estimator))
    if schema.is_numeric and not selects_columns:
        return _convert_graph(estimator, task, [(NUMERIC_INPUT, number([None, len(schema.features)]))], precision)
    columns = [(f.name, (StringTensorType if f.is_text else number)([None, 1])) for f in schema.features]
    return _merge_inputs(_convert_graph(estimator, task, columns, precision), schema)


def _convert_graph(estimator: Any, task: Task, inputs: list[tuple[str, Any]], precision: Precision) -> Any:  # noqa: ANN401  estimator, onnx.ModelProto
    """Convert an estimator with skl2onnx and keep only the outputs that a prediction needs."""
    from skl2onnx import convert_sklearn  # noqa: PLC0415  an extra
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs  # noqa: PLC0415  an extra

    from modeltrace.bundles.onnx.operators import float64_converters  # noqa: PLC0415  needs the extra

    has_probabilities = hasattr(estimator, "predict_proba") and task in ("classifier", "clusterer")
    model = convert_sklearn(
        value_estimator(estimator),
        name="model",
        initial_types=inputs,
        target_opset=OPSETS,
        options={id(estimator): {"zipmap": False}} if has_probabilities and task == "classifier" else None,
        custom_conversion_functions=float64_converters() if precision == "float64" else None,
    )
    if task in ("regressor", "multi_output", "transformer"):
        return model
    needed = slice(0, 1) if task == "classifier" else slice(0, 2)
    if has_probabilities:
        needed = slice(1, 2) if predicts_argmax(estimator) else slice(0, 2)
    outputs = list(model.graph.output)[needed]
    selected = select_model_inputs_outputs(model, outputs=[output.name for output in outputs])
    # The selection drops the shapes of the outputs.
    del selected.graph.output[:]
    selected.graph.output.extend(outputs)
    return selected


def _merge_inputs(model: Any, schema: Schema) -> Any:  # noqa: ANN401  onnx.ModelProto
    """Replace one input per column by one for all numbers and one for all texts, which the graph splits."""
    from onnx import TensorProto, helper  # noqa: PLC0415  an extra

    graph = model.graph
    types = {column.name: column.type.tensor_type.elem_type for column in graph.input}
    del graph.input[:]
    splits = []
    for name, is_text in ((NUMERIC_INPUT, False), (TEXT_INPUT, True)):
        columns = [feature.name for feature in schema.features if feature.is_text == is_text]
        if not columns:
            continue
        if name in schema.name_set:
            raise ValueError(f"a feature is called {name}, which is the name of an input")
        graph.input.append(helper.make_tensor_value_info(name, types[columns[0]], [None, len(columns)]))
        sizes = helper.make_tensor(f"sizes of {name}", TensorProto.INT64, [len(columns)], [1] * len(columns))
        graph.initializer.append(sizes)
        splits.append(helper.make_node("Split", [name, sizes.name], columns, axis=1))
    nodes = [*splits, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
