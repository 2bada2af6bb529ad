"""Load a model into ONNX Runtime after checking its graph. scikit-learn's artifact is not read at all.

A graph has one input for all numbers and booleans, in the order of the schema, and one input for all categories. It has
only the inputs that the schema needs. The output of a regressor is the value. The outputs of a classifier are the
probabilities, the label, or both. Both are needed if the label may differ from the class of the highest probability.
The outputs of an outlier detector are label and score; of a clusterer, label and the distances to all centres or the
probabilities; several numbers are one output.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from modeltrace.errors import BundleError, SettingsError
from modeltrace.inference.features import Matrix
from modeltrace.inference.model import Label, ModelOutput, PredictFns
from modeltrace.inference.predict_fns import TIE_TOLERANCE, to_value_outputs
from modeltrace.inference.schema import Schema
from modeltrace.inference.task_fns import to_number_outputs
from modeltrace.inference.tasks import TASK_NAMES, Task
from modeltrace.onnx_providers import CPU_PROVIDER, check_providers

Precision = Literal["float64", "float32"]

NUMERIC_INPUT = "numbers"
TEXT_INPUT = "texts"

# Two float32 probabilities closer than this may differ by rounding only.
FLOAT32_TIE_TOLERANCE = 1e-6

# The domains of ONNX's own operators. Operators of other domains need a library or code that is not in the file.
ALLOWED_DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml"})
# A loop may never terminate. No converted estimator needs one.
FORBIDDEN_OPERATOR = b"Loop"

# The fields of onnx.proto that have to be followed to reach all operators and tensors: their numbers and types.
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
    """Check an untrusted ONNX model before ONNX Runtime parses it.

    The check rejects tensors whose content is in another file (ONNX Runtime would read any path that the model
    contains), operators that are not ONNX's own, functions, and operators that may never terminate.

    Raises:
        BundleError: the bytes are not an ONNX model, or contain one of these.
    """
    model = _model_type()()
    try:
        model.ParseFromString(raw)
    except DecodeError:
        raise BundleError(f"{source} is not an ONNX model") from None
    # Protobuf merges repeated occurrences of a singular field. `_MESSAGES` declares all fields as lists, so that each
    # occurrence is checked.
    if not model.graph or model.functions or model.training_info:
        raise BundleError(f"{source} must be one ONNX graph: it has none, or functions or training information as well")
    for message in _walk(model):
        kind = message.DESCRIPTOR.name
        if kind == "TensorProto" and (message.external_data or any(message.data_location)):
            raise BundleError(f"{source} has tensors in other files; a bundle must contain the whole model")
        if kind != "NodeProto":
            continue
        if not set(message.domain) <= ALLOWED_DOMAINS or FORBIDDEN_OPERATOR in message.op_type:
            name = b" ".join([*message.domain, *message.op_type]).decode(errors="replace")
            raise BundleError(f"{source} has the operator {name}, which is not allowed")


def _walk(root: Message) -> Iterator[Any]:
    stack = [root]
    while stack:
        message = stack.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                stack.extend(value)


def _model_type() -> Any:  # noqa: ANN401  a generated class
    """Return a message class that parses only the fields of `_MESSAGES`."""
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


def open_session(raw: bytes, source: object, providers: Sequence[str] = (CPU_PROVIDER,)) -> Any:  # noqa: ANN401  an onnxruntime.InferenceSession
    """Check a model and load it. A call uses one thread of the CPU, because the service runs calls in parallel.

    Args:
        raw: the model.
        source: its name in messages.
        providers: the execution providers, the preferred first. The CPU computes what they cannot.

    Raises:
        SettingsError: ONNX Runtime is not installed, or a provider cannot be used.
        BundleError: the check rejects the model, or ONNX Runtime cannot load it.
    """
    try:
        import onnxruntime  # noqa: PLC0415  an extra; scikit-learn serves without it
    except ImportError:
        raise SettingsError(
            "ONNX Runtime is not installed: pip install 'modeltrace[onnx]'; or serve with MODELTRACE_ENGINE=sklearn"
        ) from None
    check_graph(raw, source)
    check_providers(providers, onnxruntime.get_available_providers(), f"ONNX Runtime {onnxruntime.__version__} has")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised
    onnxruntime.disable_telemetry_events()  # the builds for Windows have some
    # Set the format. Otherwise ONNX Runtime detects it, and could parse the bytes in a format that was not checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(raw, options, providers=list(dict.fromkeys(providers)))
    except Exception as error:  # the exceptions of ONNX Runtime have no common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(f"{source} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {reason}") from error
    # If the libraries or the device of a provider are absent, ONNX Runtime uses the CPU without an error.
    check_providers(providers, session.get_providers(), "ONNX Runtime could start (its log says why)")
    return session


def session_predict_fns(
    session: Any,  # noqa: ANN401  a session
    task: Task,
    classes: Sequence[Label] | None,
    schema: Schema,
    *,
    has_outputs: bool = False,
) -> PredictFns:
    """Return the predict functions of a session, as `modeltrace.inference.predict_fns.make_predict_fns` does.

    `has_outputs` says whether the predictions have a named output in addition to the label.

    Raises:
        BundleError: the session does not match the task, the classes or the features.
    """
    run = _run_fn(session, schema)
    outputs = session.get_outputs()
    kinds = [("label" if output.type in ("tensor(int64)", "tensor(string)") else "number") for output in outputs]
    if task == "regressor" and kinds == ["number"]:
        return PredictFns(lambda matrix: to_value_outputs(run(matrix)[0]))
    if task in ("multi_output", "transformer") and kinds == ["number"]:
        return PredictFns(lambda matrix: to_number_outputs(run(matrix)[0]))
    if has_outputs and kinds == ["label", "number"]:  # the score, or the distance to the nearest centre
        return PredictFns(lambda matrix: _with_number(*run(matrix)))
    if task in ("classifier", "clusterer") and classes:
        # Checked here once, because predictions look up a class by its column.
        if kinds[-1] == "number" and [*outputs[-1].shape][-1:] != [len(classes)]:
            raise BundleError("the ONNX model has another number of classes than model.json")
        tie = TIE_TOLERANCE if outputs[-1].type == "tensor(double)" else FLOAT32_TIE_TOLERANCE
        labels = tuple(classes)
        if kinds == ["number"]:
            return PredictFns(
                lambda matrix: _predict_argmax(run(matrix)[0], labels, tie, keep=False),
                lambda matrix: _predict_argmax(run(matrix)[0], labels, tie, keep=True),
            )
        # ONNX has classes as strings or integers.
        columns = {label if isinstance(label, str) else int(label): index for index, label in enumerate(labels)}
        if kinds == ["label"]:
            return PredictFns(lambda matrix: [ModelOutput(labels[columns[name]]) for name in run(matrix)[0].tolist()])
        if kinds == ["label", "number"]:
            return PredictFns(
                lambda matrix: _predict_both(run(matrix), labels, columns, keep=False),
                lambda matrix: _predict_both(run(matrix), labels, columns, keep=True),
            )
    raise BundleError(f"the ONNX model returns {', '.join(kinds)}, which are not the outputs of {TASK_NAMES[task]}")


def _run_fn(session: Any, schema: Schema) -> Callable[[Matrix], list[Any]]:  # noqa: ANN401  a session
    """Return the function that runs a session on a matrix and returns its outputs."""
    inputs = {value.name: value for value in session.get_inputs()}
    columns = {
        NUMERIC_INPUT: [index for index, feature in enumerate(schema.features) if not feature.is_text],
        TEXT_INPUT: [index for index, feature in enumerate(schema.features) if feature.is_text],
    }
    widths = {name: len(indices) for name, indices in columns.items() if indices}
    types = {NUMERIC_INPUT: ("tensor(double)", "tensor(float)"), TEXT_INPUT: ("tensor(string)",)}
    if inputs.keys() != widths.keys() or any(
        value.type not in types[name] or [*value.shape][-1:] != [widths[name]] for name, value in inputs.items()
    ):
        raise BundleError("the ONNX model takes other features than model.json describes")
    outputs = [output.name for output in session.get_outputs()]
    run: Callable[..., list[Any]] = session.run
    dtype = np.float32 if NUMERIC_INPUT in inputs and inputs[NUMERIC_INPUT].type == "tensor(float)" else np.float64
    if schema.is_numeric:
        if dtype is np.float64:
            return lambda matrix: run(outputs, {NUMERIC_INPUT: matrix})
        return lambda matrix: run(outputs, {NUMERIC_INPUT: matrix.astype(dtype)})

    def run_split(matrix: Any) -> list[Any]:  # noqa: ANN401  an array of objects
        feeds = {TEXT_INPUT: matrix[:, columns[TEXT_INPUT]]}
        if columns[NUMERIC_INPUT]:
            feeds[NUMERIC_INPUT] = matrix[:, columns[NUMERIC_INPUT]].astype(dtype)
        return run(outputs, feeds)

    return run_split


def _predict_argmax(probabilities: Any, labels: Sequence[Label], tie: float, *, keep: bool) -> list[ModelOutput]:  # noqa: ANN401  an array
    """Return the class of the highest probability; in a tie the first class, as scikit-learn does.

    `keep`: return the probabilities of all classes, too.
    """
    outputs = []
    for row in probabilities.tolist():
        confidence = max(row)
        best = row.index(confidence)
        for index in range(best):
            if confidence - row[index] <= tie:
                best, confidence = index, row[index]
                break
        finite = confidence if math.isfinite(confidence) else None
        outputs.append(ModelOutput(labels[best], finite, None, row if keep else None))
    return outputs


def _with_number(labels: Any, numbers: Any) -> list[ModelOutput]:  # noqa: ANN401  arrays
    nearest = np.asarray(numbers, dtype=np.float64).reshape(len(labels), -1).min(axis=1)
    pairs = zip(labels.ravel().tolist(), nearest.tolist(), strict=True)
    return [ModelOutput(label, outputs=(number,)) for label, number in pairs]


def _predict_both(
    predicted: list[Any], labels: Sequence[Label], columns: dict[str | int, int], *, keep: bool
) -> list[ModelOutput]:
    chosen, probabilities = predicted
    outputs = []
    for label, row in zip(chosen.tolist(), probabilities.tolist(), strict=True):
        index = columns[label]
        finite = row[index] if math.isfinite(row[index]) else None
        outputs.append(ModelOutput(labels[index], finite, None, row if keep else None))
    return outputs
