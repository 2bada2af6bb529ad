"""The Open Inference Protocol V2: requests and responses of `infer`, and the description of a model.

A request has one input per feature, of the shape [n] or [n, 1]. If all features are numeric, it may have a single input
of the shape [n, number of features] instead, with any other name.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from modeltrace.errors import MalformedRequestError, RequestTooLargeError
from modeltrace.inference.model import Label, Model
from modeltrace.inference.pipeline import Prediction
from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.validate import MAX_UNKNOWN_FEATURES
from modeltrace.protocols.rows import MAX_NAME, ColumnRows
from modeltrace.protocols.tensors import Tensor, TensorHeader, decode_binary, decode_json, encode_binary, parse_header

DATATYPES: Final = {
    "number": "FP64", "integer": "INT64", "boolean": "BOOL", "text": "BYTES",
    "datetime": "BYTES", "timedelta": "BYTES",
}  # fmt: skip
EXTENSIONS: Final = ("binary_tensor_data",)
PROBABILITIES: Final = "probabilities"
INTERVAL: Final = "interval"  # of the shape [n, 2]: the lower and the upper bound
DETAILS: Final = (PROBABILITIES, INTERVAL)  # only on request
OUTPUTS: Final = "outputs"  # the named outputs of a model, of the shape [n, number of outputs]


class RequestedOutput(NamedTuple):
    """An output of the response, and whether its values are sent in binary form."""

    name: str
    binary: bool


class InferRequest(NamedTuple):
    """A request: its ID (`None` if it has none), its rows, and the outputs that the client wants."""

    id: str | None
    rows: ColumnRows
    outputs: tuple[RequestedOutput, ...]

    @property
    def wants_details(self) -> bool:
        """Whether the probability of each class or the prediction interval is among the outputs."""
        return any(self.wants_output(name) for name in DETAILS)

    def wants_output(self, name: str) -> bool:
        """Return whether an output is among the outputs."""
        return any(output.name == name for output in self.outputs)


def parse_infer_request(
    document: Mapping[str, object], binary: bytes, model: Model, max_rows: int, *, details: bool = False
) -> InferRequest:
    """Parse the JSON object of a request; `binary` is what follows it in the body.

    `details`: a request that names no outputs gets the probability of each class or the prediction interval, too.

    Raises:
        MalformedRequestError: the request has another form than the protocol and the model need.
        RequestTooLargeError: it has more than `max_rows` rows.
    """
    request_id, described = document.get("id"), document.get("inputs")
    if request_id is not None and not isinstance(request_id, str):
        raise MalformedRequestError('"id" must be a string')
    if not isinstance(described, list) or not described:
        raise MalformedRequestError('"inputs" must be an array with at least one input')
    if len(described) > len(model.features) + MAX_UNKNOWN_FEATURES:
        raise MalformedRequestError(f"the request has {len(described)} inputs, the model has {len(model.features)}")
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise MalformedRequestError('"parameters" must be an object')
    in_binary = parameters.get("binary_data_output") is True
    outputs = _requested_outputs(document.get("outputs"), model, binary=in_binary, details=details)
    headers = [parse_header(entry, f"inputs[{index}]") for index, entry in enumerate(described)]
    n_rows = _count_rows(headers, model.schema, max_rows)
    tensors = _decode(headers, described, binary)
    if _is_matrix(headers, model.schema):
        columns = _split_matrix(tensors[0], model.features)
    else:
        columns = {tensor.name: tensor.values for tensor in tensors}
    return InferRequest(request_id, ColumnRows(columns, n_rows), outputs)


def _requested_outputs(described: object, model: Model, *, binary: bool, details: bool) -> tuple[RequestedOutput, ...]:
    available = output_datatypes(model)
    if described is None or described == []:
        return tuple(RequestedOutput(name, binary) for name in available if name not in DETAILS or details)
    if not isinstance(described, list) or not all(isinstance(output, dict) for output in described):
        raise MalformedRequestError('"outputs" must be an array of objects')
    outputs: list[RequestedOutput] = []
    for output in described:
        name, parameters = output.get("name"), output.get("parameters") or {}
        if not isinstance(name, str) or name not in available:
            raise MalformedRequestError(
                f"the model has no output {str(name)[:MAX_NAME]!r}; it has {', '.join(available)}"
            )
        if any(name == requested.name for requested in outputs):
            raise MalformedRequestError(f'output "{name}" is requested twice')
        if not isinstance(parameters, dict) or parameters.keys() & {"classification", "shared_memory_region"}:
            raise MalformedRequestError(f'output "{name}": only the parameter "binary_data" is supported')
        outputs.append(RequestedOutput(name, parameters.get("binary_data", binary) is True))
    return tuple(outputs)


def _count_rows(headers: Sequence[TensorHeader], schema: Schema, max_rows: int) -> int:
    """Return the number of rows, before any values are decoded.

    Raises:
        MalformedRequestError: the names are not distinct, a shape is wrong, or the numbers of rows differ.
        RequestTooLargeError: there are more than `max_rows` rows.
    """
    n_rows = headers[0].shape[0]
    if n_rows > max_rows:
        limit = f"the limit is {max_rows} (MODELTRACE_MAX_BATCH_ROWS)"
        raise RequestTooLargeError(f"the request has {n_rows} rows, {limit}")
    if len({header.name for header in headers}) != len(headers):
        raise MalformedRequestError("two inputs have the same name")
    if _is_matrix(headers, schema):
        return n_rows
    for name, _, shape, _ in headers:
        if len(shape) == 2 and shape[1] != 1:
            matrix = f" or, in a request with one input, [n, {len(schema.names)}]" if schema.is_numeric else ""
            raise MalformedRequestError(
                f'input "{name[:MAX_NAME]}" has the shape {list(shape)}; it must be [n], [n, 1]{matrix}'
            )
        if shape[0] != n_rows:
            raise MalformedRequestError(
                f'input "{name[:MAX_NAME]}" has {shape[0]} rows, input "{headers[0].name[:MAX_NAME]}" has {n_rows}'
            )
    return n_rows


def _is_matrix(headers: Sequence[TensorHeader], schema: Schema) -> bool:
    """Return whether the only input contains all features."""
    name, datatype, shape, _ = headers[0]
    return (
        len(headers) == 1
        and name not in schema.name_set
        and schema.is_numeric
        and datatype != "BYTES"
        and len(shape) == 2
        and shape[1] == len(schema.names)
    )


def _decode(headers: Sequence[TensorHeader], described: Sequence[Mapping[str, object]], binary: bytes) -> list[Tensor]:
    tensors = []
    position = 0
    for header, entry in zip(headers, described, strict=True):
        if header.binary_size is None:
            tensors.append(decode_json(header, entry.get("data")))
            continue
        end = position + header.binary_size
        if end > len(binary):
            raise MalformedRequestError(
                f'input "{header.name[:MAX_NAME]}" needs {header.binary_size} bytes after the JSON object, '
                f"{len(binary) - position} are left; Inference-Header-Content-Length is the length of the JSON object"
            )
        tensors.append(decode_binary(header, binary[position:end]))
        position = end
    if position != len(binary):
        raise MalformedRequestError(f"{len(binary) - position} bytes after the JSON object belong to no input")
    return tensors


def _split_matrix(tensor: Tensor, features: Sequence[Feature]) -> dict[str, list[Any]]:
    """Return the columns of a tensor of the shape [n, features]. Such a tensor has one type: booleans are 0 and 1."""
    columns = {feature.name: tensor.values[index :: len(features)] for index, feature in enumerate(features)}
    for feature in features:
        if (feature.level_kind or feature.type) == "boolean":
            columns[feature.name] = [bool(value) if value in (0, 1) else value for value in columns[feature.name]]
    return columns


def output_datatypes(model: Model) -> dict[str, str]:
    """Return the datatypes of a model's outputs by name, in their order in a response."""
    if model.task == "regressor":
        return {"value": "FP64", "prediction_id": "BYTES", **({INTERVAL: "FP64"} if model.interval else {})}
    has_label = model.classes is not None or model.task == "classifier"
    datatypes = {"label": _label_datatype(model.classes or ())} if has_label else {}
    if model.can_have_probabilities:
        datatypes["confidence"] = "FP64"
    if model.outputs:
        datatypes[OUTPUTS] = _label_datatype([label for output in model.outputs for label in output.classes or (0.0,)])
    datatypes["prediction_id"] = "BYTES"
    return {**datatypes, PROBABILITIES: "FP64"} if model.has_probabilities else datatypes


def _label_datatype(classes: Sequence[Label]) -> str:
    """Return the datatype of labels: that of their type, or BYTES for texts and for several types."""
    kinds = {type(label) for label in classes}
    if kinds in ({bool}, {int}):
        return "BOOL" if kinds == {bool} else "INT64"
    return "FP64" if kinds and kinds <= {int, float} else "BYTES"


def encode_infer_response(
    request: InferRequest,
    predictions: Sequence[Prediction],
    model: Model,
    trace_id: str | None,
) -> tuple[dict[str, Any], bytes]:
    """Return the JSON object of a response, and the binary data that follows it."""
    datatypes, chunks, outputs = output_datatypes(model), [], []
    for name, binary in request.outputs:
        datatype = datatypes[name]
        shape = [len(predictions), *_inner_shape(name, model)]
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        values = _output_values(name, predictions)
        if binary:
            chunks.append(encode_binary(datatype, values))
            output["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            output["data"] = [str(value) for value in values] if datatype == "BYTES" else values
        outputs.append(output)
    response: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        response["id"] = request.id
    if trace_id is not None:
        response["parameters"] = {"trace_id": trace_id}
    return {**response, "outputs": outputs}, b"".join(chunks)


def _inner_shape(name: str, model: Model) -> list[int]:
    """Return the sizes of the dimensions of an output after that of the rows."""
    widths = {PROBABILITIES: len(model.classes or ()), OUTPUTS: len(model.outputs), INTERVAL: 2}
    return [widths[name]] if name in widths else []


def _output_values(name: str, predictions: Sequence[Prediction]) -> list[Any]:
    if name == "prediction_id":
        return [prediction.id for prediction in predictions]
    if name == PROBABILITIES:
        return [value for prediction in predictions for value in prediction.output.probabilities or ()]
    if name == INTERVAL:
        return [value for prediction in predictions for value in prediction.output.interval or ()]
    if name == OUTPUTS:
        return [value for prediction in predictions for value in prediction.output.outputs or ()]
    return [getattr(prediction.output, name) for prediction in predictions]


def describe_model(model: Model, versions: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of a model; `versions` can be requested explicitly."""
    inputs = [
        {"name": feature.name, "datatype": DATATYPES[feature.level_kind or feature.type], "shape": [-1]}
        for feature in model.features
    ]
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *_inner_shape(name, model)]}
        for name, datatype in output_datatypes(model).items()
    ]
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": f"modeltrace_{model.engine}",
        "inputs": inputs,
        "outputs": outputs,
    }
