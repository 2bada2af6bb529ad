"""Inference requests of the Open Inference Protocol over gRPC, converted to those over HTTP, and their responses back.

The protocol has the same content over both. Over gRPC, the values of tensors are in typed lists (`contents`), or in
binary form (`raw_input_contents`); over HTTP, they become binary data after the JSON object.
"""

from collections.abc import Iterable, Mapping
from math import nan
from typing import Any, Final

import numpy as np

from modeltrace.errors import MalformedRequestError
from modeltrace.protocols.rows import MAX_NAME
from modeltrace.protocols.tensors import DTYPES, TensorHeader, decode_binary, encode_bytes

# The field of `contents` for each datatype. FP16 and BF16 have none.
CONTENTS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
SHARED_MEMORY: Final = "shared_memory_region"
# Inputs, outputs and parameters of a request, each. An empty one has two bytes, and needs 600 bytes of memory.
MAX_ENTRIES: Final = 10_000


def to_http_request(request: Any) -> tuple[dict[str, Any], bytes]:  # noqa: ANN401  a generated class
    """Return the JSON object and the binary data of a `ModelInferRequest`; the response is requested in binary form.

    Raises:
        MalformedRequestError: the values of an input are missing, or are not of its datatype, or the request has too
            many inputs, outputs or parameters.
    """
    _check_entries(request)
    inputs, chunks = [], []
    raw = iter(request.raw_input_contents)
    without_data = 0
    for tensor in request.inputs:
        parameters = _to_json_parameters(tensor.parameters)
        if SHARED_MEMORY not in parameters:  # such an input has no data; it is rejected as over HTTP
            data = next(raw, None) if request.raw_input_contents else _encode_contents(tensor)
            without_data += data is None
            chunks.append(data or b"")
            parameters["binary_data_size"] = len(chunks[-1])
        shape = list(tensor.shape)
        inputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "parameters": parameters})
    if without_data or next(raw, None) is not None:
        raise MalformedRequestError(
            f"the request has {len(request.raw_input_contents)} raw_input_contents for {len(request.inputs)} inputs; "
            "it must have one for each input, in their order, or none"
        )
    document: dict[str, Any] = {
        "inputs": inputs,
        "parameters": {**_to_json_parameters(request.parameters), "binary_data_output": True},
    }
    if request.id:
        document["id"] = request.id
    if request.outputs:
        document["outputs"] = [
            {"name": output.name, "parameters": {**_to_json_parameters(output.parameters), "binary_data": True}}
            for output in request.outputs
        ]
    return document, b"".join(chunks)


def to_grpc_response(document: Mapping[str, Any], binary: bytes, response: Any, *, raw: bool) -> None:  # noqa: ANN401  a generated class
    """Fill in a `ModelInferResponse` from the JSON object and the binary data of a response.

    `raw`: write the values to `raw_output_contents`, as a request with `raw_input_contents` expects them.
    """
    response.model_name, response.model_version = document["model_name"], document["model_version"]
    response.id = document.get("id", "")
    for key, value in document.get("parameters", {}).items():
        response.parameters.add(key=key).value.string_param = value
    position = 0
    for output in document["outputs"]:
        tensor = response.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        end = position + output["parameters"]["binary_data_size"]
        data, position = binary[position:end], end
        if raw:
            response.raw_output_contents.append(data)
        else:
            getattr(tensor.contents, CONTENTS[tensor.datatype]).extend(_decode_values(tensor, data))


def _check_entries(request: Any) -> None:  # noqa: ANN401  a generated class
    numbers = {
        "inputs": len(request.inputs),
        "outputs": len(request.outputs),
        "parameters": len(request.parameters)
        + sum(len(tensor.parameters) for tensors in (request.inputs, request.outputs) for tensor in tensors),
        "dimensions": sum(len(tensor.shape) for tensor in request.inputs),
        "raw_input_contents": len(request.raw_input_contents),
    }
    for name, number in numbers.items():
        if number > MAX_ENTRIES:
            raise MalformedRequestError(f"the request has {number:,} {name}; the limit is {MAX_ENTRIES:,}")


def _to_json_parameters(parameters: Iterable[Any]) -> dict[str, Any]:
    chosen = (
        (parameter.key, parameter.value, parameter.value.WhichOneof("parameter_choice")) for parameter in parameters
    )
    return {key: getattr(value, kind) if kind else None for key, value, kind in chosen}


def _encode_contents(tensor: Any) -> bytes:  # noqa: ANN401  a generated class
    """Return the typed values of an input in binary form.

    Raises:
        MalformedRequestError: they are in the field of another datatype, or exceed the range of theirs.
    """
    place, datatype = f'input "{tensor.name[:MAX_NAME]}"', tensor.datatype
    if datatype not in CONTENTS:
        if datatype in DTYPES:
            raise MalformedRequestError(f"{place}: {datatype} has no typed values; send them in raw_input_contents")
        return b""  # an unknown datatype is rejected as over HTTP
    name = CONTENTS[datatype]
    if others := [field.name for field, _ in tensor.contents.ListFields() if field.name != name]:
        raise MalformedRequestError(f"{place}: the values of {datatype} belong to {name}, not {others[0]}")
    values = getattr(tensor.contents, name)
    if datatype == "BYTES":
        return encode_bytes(values)
    try:
        return np.array(list(values), dtype=DTYPES[datatype]).tobytes()  # of a list, since it checks the range
    except OverflowError:
        raise MalformedRequestError(f"{place}: a value is not {datatype}") from None


def _decode_values(tensor: Any, data: bytes) -> Iterable[Any]:  # noqa: ANN401  a generated class
    """Return the values of an output as its typed list has them: texts as bytes, and NaN for a missing number."""
    header = TensorHeader(tensor.name, tensor.datatype, (int(np.prod(tensor.shape)),), len(data))
    values = decode_binary(header, data).values
    if tensor.datatype == "BYTES":
        return [value.encode() for value in values]
    return [nan if value is None else value for value in values]
