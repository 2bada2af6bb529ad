"""A model in ONNX Runtime: its graph is looked through, then loaded. scikit-learn's artifact is not even read.

A graph has one input for numbers and booleans, in the order of the schema, and one for categories, if there are any.
It gives a regressor's values; or a classifier's probabilities, the label, or both, where the label is decided otherwise
than by the greatest probability.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from modeltrace.errors import BundleError, InferenceError, SettingsError
from modeltrace.inference.features import Matrix
from modeltrace.inference.model import TIE_TOLERANCE, Label, ModelOutput, Task
from modeltrace.inference.schema import Schema

Precision = Literal["float64", "float32"]
PredictFn = Callable[[Matrix], list[ModelOutput]]

NUMERIC_INPUT = "numbers"
TEXT_INPUT = "texts"

# Two classes whose float32 probabilities are this close may be a tie that rounding has broken.
FLOAT32_TIE_TOLERANCE = 1e-6

# ONNX's own operators; others come from a library that somebody would have to load, or from outside of the file.
ALLOWED_DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml"})
# It can run for ever. No conversion of an estimator needs it.
FORBIDDEN_OPERATOR = b"Loop"

# The fields of onnx.proto, by their numbers, through which all operators and tensors are reached.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelProto": {"graph": (7, "GraphProto"), "training_info": (20, "bytes"), "functions": (25, "bytes")},
    "GraphProto": {
        "node": (1, "NodeProto"),
        "initializer": (5, "TensorProto"),
        "sparse_initializer": (15, "SparseTensorProto"),
    },
    "NodeProto": {"op_type": (4, "bytes"), "domain": (7, "bytes"), "attribute": (5, "AttributeProto")},
    "AttributeProto": {
        "t": (5, "TensorProto"),
        "g": (6, "GraphProto"),
        "tensors": (10, "TensorProto"),
        "graphs": (11, "GraphProto"),
        "sparse_tensor": (22, "SparseTensorProto"),
        "sparse_tensors": (23, "SparseTensorProto"),
    },
    "SparseTensorProto": {"values": (1, "TensorProto"), "indices": (2, "TensorProto")},
    "TensorProto": {"external_data": (13, "bytes"), "data_location": (14, "int32")},
}


def check_graph(raw: bytes, source: object) -> None:
    """Look through a model that may be hostile, before ONNX Runtime reads it.

    Refused are tensors whose content lies in other files (a path of the model's choice would be read), operators that
    are not ONNX's own, functions, and what may never end.

    Raises:
        BundleError: the bytes are no ONNX model, or one of those.
    """
    model = _model_type()()
    try:
        model.ParseFromString(raw)
    except DecodeError:
        raise BundleError(f"{source} is no ONNX model") from None
    # Declared as lists, they hold every occurrence that a reader might merge into one.
    if not model.graph or model.functions or model.training_info:
        raise BundleError(f"{source} is not one ONNX graph by itself: it has none, or functions or training beside it")
    for part in _parts(model):
        kind = part.DESCRIPTOR.name
        if kind == "TensorProto" and (part.external_data or any(part.data_location)):
            raise BundleError(f"{source} keeps tensors in other files; it is not used: a bundle holds all of its model")
        if kind != "NodeProto":
            continue
        if not set(part.domain) <= ALLOWED_DOMAINS or FORBIDDEN_OPERATOR in part.op_type:
            name = b" ".join([*part.domain, *part.op_type]).decode(errors="replace")
            raise BundleError(f"{source} has the operator {name}, which is not allowed")


def _parts(message: Message) -> Iterator[Any]:
    waiting = [message]
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting.extend(value)


def _model_type() -> Any:  # noqa: ANN401  a class that is made here
    """The class of a model of which only `_MESSAGES` is read; whatever else there is stays unread."""
    types = {"bytes": FieldDescriptorProto.TYPE_BYTES, "int32": FieldDescriptorProto.TYPE_INT32}
    file = FileDescriptorProto(name="checked.proto", package="checked", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            message.field.add(
                name=field,
                number=number,
                label=FieldDescriptorProto.LABEL_REPEATED,
                type=types.get(kind, FieldDescriptorProto.TYPE_MESSAGE),
                type_name=None if kind in types else f".checked.{kind}",
            )
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("checked.ModelProto"))


def open_session(raw: bytes, source: object) -> Any:  # noqa: ANN401  an onnxruntime.InferenceSession
    """Check a model and load it for the CPU, one thread a call: the service's own threads are the parallel ones.

    Raises:
        SettingsError: ONNX Runtime is not installed.
        BundleError: the model is refused, or ONNX Runtime cannot load it.
    """
    try:
        import onnxruntime  # noqa: PLC0415  an extra; whoever serves with scikit-learn does without
    except ImportError:
        raise SettingsError(
            "ONNX Runtime is not installed: pip install 'modeltrace[onnx]'; or serve with MODELTRACE_ENGINE=sklearn"
        ) from None
    check_graph(raw, source)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what matters is raised
    onnxruntime.disable_telemetry_events()  # its builds for Windows have some
    # Otherwise bytes that begin in another way are read as another format, which nobody has looked through.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own have no common base
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(f"{source} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {first}") from error


def session_predict_fn(session: Any, task: Task, classes: Sequence[Label] | None, schema: Schema) -> PredictFn:  # noqa: ANN401  a session
    """How a session is asked: decided once, as `modeltrace.inference.model.answering` does for an estimator.

    Raises:
        BundleError: the session is not one for this task, these classes or these features.
    """
    run = _running(session, schema)
    outputs = session.get_outputs()
    kinds = [("label" if output.type in ("tensor(int64)", "tensor(string)") else "number") for output in outputs]
    if task == "regressor" and kinds == ["number"]:
        return lambda matrix: _values(run(matrix)[0])
    if task == "classifier" and classes:
        # The width is checked here, once: a class is looked up by its column.
        if kinds[-1] == "number" and [*outputs[-1].shape][-1:] != [len(classes)]:
            raise BundleError("the ONNX model has another number of classes than model.json")
        tie = TIE_TOLERANCE if outputs[-1].type == "tensor(double)" else FLOAT32_TIE_TOLERANCE
        labels = tuple(classes)
        if kinds == ["number"]:
            return lambda matrix: _most_probable(run(matrix)[0], labels, tie)
        places = {_as_in_onnx(label): index for index, label in enumerate(labels)}
        if kinds == ["label"]:
            return lambda matrix: [ModelOutput(labels[places[said]]) for said in run(matrix)[0].tolist()]
        if kinds == ["label", "number"]:
            return lambda matrix: _decided(run(matrix), labels, places)
    raise BundleError(f"the ONNX model gives {', '.join(kinds)}, which is not what a {task} answers")


def _running(session: Any, schema: Schema) -> Callable[[Matrix], list[Any]]:  # noqa: ANN401  a session
    inputs = {one.name: one for one in session.get_inputs()}
    columns = {
        NUMERIC_INPUT: [index for index, feature in enumerate(schema.features) if not feature.is_text],
        TEXT_INPUT: [index for index, feature in enumerate(schema.features) if feature.is_text],
    }
    widths = {name: len(places) for name, places in columns.items() if places}
    types = {NUMERIC_INPUT: ("tensor(double)", "tensor(float)"), TEXT_INPUT: ("tensor(string)",)}
    if inputs.keys() != widths.keys() or any(
        one.type not in types[name] or [*one.shape][-1:] != [widths[name]] for name, one in inputs.items()
    ):
        raise BundleError("the ONNX model takes other features than model.json describes")
    outputs = [output.name for output in session.get_outputs()]
    ask: Callable[..., list[Any]] = session.run
    kind = np.float32 if NUMERIC_INPUT in inputs and inputs[NUMERIC_INPUT].type == "tensor(float)" else np.float64
    if schema.is_numeric:
        if kind is np.float64:
            return lambda matrix: ask(outputs, {NUMERIC_INPUT: matrix})
        return lambda matrix: ask(outputs, {NUMERIC_INPUT: matrix.astype(kind)})

    def split(matrix: Any) -> list[Any]:  # noqa: ANN401  an array of objects
        fed = {TEXT_INPUT: matrix[:, columns[TEXT_INPUT]]}
        if columns[NUMERIC_INPUT]:
            fed[NUMERIC_INPUT] = matrix[:, columns[NUMERIC_INPUT]].astype(kind)
        return ask(outputs, fed)

    return split


def _values(said: Any) -> list[ModelOutput]:  # noqa: ANN401  an array
    values = said.ravel().tolist()
    if not all(map(math.isfinite, values)):
        raise InferenceError("the model answered with a number that is not finite")
    return [ModelOutput(value=value) for value in values]


def _most_probable(probabilities: Any, labels: Sequence[Label], tie: float) -> list[ModelOutput]:  # noqa: ANN401  an array
    """The most probable class; of several, the first, as scikit-learn has it."""
    answers = []
    for row in probabilities.tolist():
        confidence = max(row)
        best = row.index(confidence)
        for index in range(best):
            if confidence - row[index] <= tie:
                best, confidence = index, row[index]
                break
        answers.append(ModelOutput(labels[best], confidence if math.isfinite(confidence) else None))
    return answers


def _decided(said: list[Any], labels: Sequence[Label], places: dict[Any, int]) -> list[ModelOutput]:
    chosen, probabilities = said
    answers = []
    for label, row in zip(chosen.tolist(), probabilities.tolist(), strict=True):
        index = places[label]
        answers.append(ModelOutput(labels[index], row[index] if math.isfinite(row[index]) else None))
    return answers


def _as_in_onnx(label: Label) -> str | int:
    """Classes are texts or whole numbers there."""
    return label if isinstance(label, str) else int(label)
