"""From an estimator to ONNX, proven to answer the same on reference data, or refused."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sklearn.compose import ColumnTransformer

from modeltrace.bundles.onnx.model import (
    NUMERIC_INPUT,
    TEXT_INPUT,
    Precision,
    PredictFn,
    open_session,
    session_predict_fn,
)
from modeltrace.bundles.tree_validation import walk_objects
from modeltrace.errors import BundleError, PackError
from modeltrace.inference.allowed_violations import unseen_category
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import ModelOutput, Task, make_predict_fn, predicts_argmax, to_json_label
from modeltrace.inference.schema import Feature, Schema, Value
from modeltrace.inference.validate import Values

# What a confidence may differ by; a value, as a share of the greatest one.
TOLERANCE = 1e-6
# Rows that are asked one by one, too: kernels for one row and for many are not the same.
MAX_SINGLE_ROWS = 100
OPSETS = {"": 21, "ai.onnx.ml": 3}
REMEDY = "pack it without --onnx and serve it with scikit-learn"


@dataclass(frozen=True)
class OnnxExport:
    """A model in ONNX, and how far its answers are from the estimator's own."""

    raw: bytes
    opset: dict[str, int]
    precision: Precision
    n_rows: int
    max_difference: float


class _DiffersError(Exception):
    """The translation answers otherwise than the estimator."""


def export_onnx(estimator: Any, task: Task, schema: Schema, rows: Sequence[Values], *, as_frame: bool) -> OnnxExport:  # noqa: ANN401  any estimator
    """Translate an estimator, in double precision if that goes, else in single, and prove the translation.

    Args:
        estimator: a fitted classifier or regressor.
        task: which of them.
        schema: of its features.
        rows: reference data, in the schema's order. Each must get the same label, and a confidence or value that
            differs by no more than `RELATIVE_TOLERANCE`; values that training never had, the same answer or none, too.
        as_frame: whether the estimator takes frames.

    Raises:
        PackError: there is no translation, or none that answers the same; the message says why, or by how much.
    """
    try:
        import skl2onnx  # noqa: F401, PLC0415  an extra; whoever packs without --onnx does without
    except ImportError:
        raise PackError("--onnx needs the converter: pip install 'modeltrace[onnx]'") from None
    for feature in schema.features:
        if feature.is_text and feature.accepts_missing:
            raise PackError(f"ONNX has no missing texts, and {feature.name} may be missing; {REMEDY}")
    # Neither what skl2onnx nor what scikit-learn warns of matters to an answer that is proven.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _convert(estimator, task, schema, rows, as_frame=as_frame)


def _convert(estimator: Any, task: Task, schema: Schema, rows: Sequence[Values], *, as_frame: bool) -> OnnxExport:  # noqa: ANN401  any estimator
    kind = type(estimator).__name__
    try:
        own = _Asked(make_predict_fn(estimator, task), schema, rows, as_frame=as_frame)
    except Exception as error:
        raise PackError(f"the {kind} itself cannot answer rows of the training data: {_say(error)}") from error
    failures: list[Exception] = []
    for precision in get_args(Precision):
        try:
            model = _translate(estimator, task, schema, precision, as_frame=as_frame)
            raw = model.SerializeToString(deterministic=True)
            ask = session_predict_fn(open_session(raw, "the translation"), task, _classes(estimator, task), schema)
            difference = _compare(own, _Asked(ask, schema, rows, as_frame=False))
        except Exception as error:  # noqa: BLE001  skl2onnx raises whatever it likes
            failures.append(error)
            continue
        opset = {one.domain or "ai.onnx": one.version for one in model.opset_import}
        return OnnxExport(raw, opset, precision, len(rows), difference)
    # A translation that answers otherwise says more than one that there is not.
    reason = next((error for error in failures if isinstance(error, _DiffersError)), failures[0])
    raise PackError(f"the {kind} cannot be served by ONNX Runtime: {_say(reason)}; {REMEDY}")


def _classes(estimator: Any, task: Task) -> "tuple[Any, ...] | None":  # noqa: ANN401  any estimator
    return tuple(to_json_label(label) for label in estimator.classes_) if task == "classifier" else None


def _say(error: Exception) -> str:
    if isinstance(error, _DiffersError | BundleError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


class _Asked:
    """What a model says of reference rows: all at once, some alone, and one with values that training never had."""

    def __init__(self, ask: PredictFn, schema: Schema, rows: Sequence[Values], *, as_frame: bool) -> None:
        def answer(some: Sequence[Values]) -> list[ModelOutput]:
            return ask(to_matrix(some, schema, as_frame=as_frame))

        self.together = answer(rows)
        # None where it fails, which a request may see as well as an answer.
        self.alone = [_or_none(answer, row) for row in rows[:MAX_SINGLE_ROWS]]
        self.unseen = [
            (feature.name, _or_none(answer, (*rows[0][:index], value, *rows[0][index + 1 :])))
            for index, feature in enumerate(schema.features)
            for value in _unseen(feature)
        ]


def _unseen(feature: Feature) -> list[Value]:
    """Values that a request may bring and training did not."""
    if feature.type == "category":
        refused = feature.enforce_categories and feature.on_violation.category == "reject"
        unseen = unseen_category(feature)
        return [] if refused or unseen is None else [unseen]
    if feature.training_range is None:
        return []
    low, high = feature.training_range
    further = high - low + 1
    enforced = feature.valid_range if feature.on_violation.range == "reject" else None
    lowest, highest = enforced or (-math.inf, math.inf)
    return [value for value in (low - further, high + further) if lowest <= value <= highest]


def _or_none(answer: Callable[[Sequence[Values]], list[ModelOutput]], row: Values) -> ModelOutput | None:
    try:
        return answer([row])[0]
    except Exception:  # noqa: BLE001  whatever it raises, it does not answer
        return None


def _compare(own: _Asked, other: _Asked) -> float:
    """The largest difference between confidences, or between values as a share of the greatest.

    Raises:
        _DiffersError: it is too large, or there is another label.
    """
    scale = max((abs(one.value) for one in own.together if one.value is not None), default=1.0) or 1.0
    together = [_difference(*pair, scale) for pair in zip(own.together, other.together, strict=True)]
    alone = [_difference(*pair, scale) for pair in zip(own.alone, other.alone, strict=True)]
    largest = max(together + alone)
    if largest > TOLERANCE:
        labels = sum(one.label != two.label for one, two in zip(own.together, other.together, strict=True))
        numbers = [difference for difference in together if difference > TOLERANCE]
        far = len(numbers) - labels
        most = max((difference for difference in numbers if math.isfinite(difference)), default=0.0)
        raise _DiffersError(
            f"of {len(together):,} rows of the training data {labels:,} get another label, {far:,} the same one with "
            f"another number (by up to {most:.2g}, {TOLERANCE:g} is let pass)"
            + ("" if numbers else "; asked one by one, some are answered otherwise")
        )
    for (name, one), (_, two) in zip(own.unseen, other.unseen, strict=True):
        greatest = scale if one is None or one.value is None else max(scale, abs(one.value))
        if _difference(one, two, greatest) > TOLERANCE:
            raise _DiffersError(
                f"a value of {name} that training never had is not treated as scikit-learn treats it "
                "(--strict-categories and --range keep such values out)"
            )
    return largest


def _difference(one: ModelOutput | None, two: ModelOutput | None, scale: float) -> float:
    """Infinite for another label, or an answer where there is none."""
    if one is None or two is None or one.label != two.label:
        return 0.0 if one is two else math.inf
    if one.value is not None and two.value is not None:
        return abs(one.value - two.value) / scale
    if one.confidence is None or two.confidence is None:
        return 0.0 if one.confidence is two.confidence else math.inf
    return abs(one.confidence - two.confidence)


def _translate(estimator: Any, task: Task, schema: Schema, precision: Precision, *, as_frame: bool) -> Any:  # noqa: ANN401  estimator, onnx.ModelProto
    """One graph with the inputs and outputs that `modeltrace.bundles.onnx.model` asks for."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType  # noqa: PLC0415  an extra

    number = DoubleTensorType if precision == "float64" else FloatTensorType
    if schema.is_numeric and not (as_frame and _picks_columns(estimator)):
        return _graph(estimator, task, [(NUMERIC_INPUT, number([None, len(schema.features)]))], precision)
    columns = [(f.name, (StringTensorType if f.is_text else number)([None, 1])) for f in schema.features]
    return _gather_inputs(_graph(estimator, task, columns, precision), schema)


def _picks_columns(estimator: Any) -> bool:  # noqa: ANN401  any estimator
    """Whether something in it may take columns by their names: then each is an input of its own to skl2onnx."""
    return any(isinstance(part, ColumnTransformer) for part in walk_objects(estimator))


def _graph(estimator: Any, task: Task, inputs: list[tuple[str, Any]], precision: Precision) -> Any:  # noqa: ANN401  estimator, onnx.ModelProto
    """What skl2onnx makes of it, of which only the outputs that are needed to answer are kept."""
    from skl2onnx import convert_sklearn  # noqa: PLC0415  an extra
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs  # noqa: PLC0415  an extra

    from modeltrace.bundles.onnx.operators import float64_converters  # noqa: PLC0415  needs the extra

    knows_probabilities = hasattr(estimator, "predict_proba")
    model = convert_sklearn(
        estimator,
        name="model",
        initial_types=inputs,
        target_opset=OPSETS,
        options={id(estimator): {"zipmap": False}} if knows_probabilities else None,
        custom_conversion_functions=float64_converters() if precision == "float64" else None,
    )
    if task == "regressor":
        return model
    kept = slice(0, 1)
    if knows_probabilities:
        kept = slice(1, 2) if predicts_argmax(estimator) else slice(0, 2)
    outputs = list(model.graph.output)[kept]
    graph = select_model_inputs_outputs(model, outputs=[output.name for output in outputs])
    # With their shapes, which the selection forgets.
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
    return graph


def _gather_inputs(model: Any, schema: Schema) -> Any:  # noqa: ANN401  onnx.ModelProto
    """From one input for each column to one for all numbers and one for all texts, split inside of the graph."""
    from onnx import TensorProto, helper  # noqa: PLC0415  an extra

    graph = model.graph
    kinds = {one.name: one.type.tensor_type.elem_type for one in graph.input}
    del graph.input[:]
    splits = []
    for name, wanted in ((NUMERIC_INPUT, False), (TEXT_INPUT, True)):
        columns = [feature.name for feature in schema.features if feature.is_text == wanted]
        if not columns:
            continue
        if name in schema.name_set:
            raise ValueError(f"a feature is called {name}, which is the name of an input")
        graph.input.append(helper.make_tensor_value_info(name, kinds[columns[0]], [None, len(columns)]))
        sizes = helper.make_tensor(f"sizes of {name}", TensorProto.INT64, [len(columns)], [1] * len(columns))
        graph.initializer.append(sizes)
        splits.append(helper.make_node("Split", [name, sizes.name], columns, axis=1))
    nodes = [*splits, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
