"""Tensors of the Open Inference Protocol: names of datatypes, JSON data, and the binary tensor extension.

In binary form, values are little-endian, in row-major order and without padding. A BOOL is one byte. An element of
BYTES is its length (uint32), followed by its bytes.
Source: https://github.com/kserve/open-inference-protocol, and Triton's "Binary Tensor Data Extension".
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from math import isnan, nan
from typing import Any, Final, NamedTuple

import numpy as np

from modeltrace.errors import MalformedRequestError
from modeltrace.protocols.rows import MAX_NAME

# NumPy's names of the types. BF16, which NumPy does not have, is the upper half of a float32; BYTES has no size.
DTYPES: Final[Mapping[str, str]] = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BF16": "<u2", "BYTES": "",
}  # fmt: skip
_LENGTH: Final = struct.Struct("<I")


class Tensor(NamedTuple):
    """A tensor of a request. `values` are flat, in row-major order; None is a missing value."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]


class TensorHeader(NamedTuple):
    """A tensor without its values. `binary_size` is the number of its bytes; None if the values are JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    binary_size: int | None

    @property
    def n_elements(self) -> int:
        """The number of values, of 1 or 2 dimensions."""
        return self.shape[0] * (self.shape[1] if len(self.shape) > 1 else 1)


def parse_header(described: object, place: str) -> TensorHeader:
    """Check name, datatype, shape and parameters of an input; `place` names it in messages.

    Raises:
        MalformedRequestError: one of them is missing or invalid.
    """
    if not isinstance(described, dict) or not isinstance(name := described.get("name"), str):
        raise MalformedRequestError(f'{place} must be an object with a "name"')
    datatype, shape, parameters = described.get("datatype"), described.get("shape"), described.get("parameters") or {}
    place = f'input "{name[:MAX_NAME]}"'
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise MalformedRequestError(f'{place}: "datatype" must be one of {", ".join(DTYPES)}')
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise MalformedRequestError(f'{place}: "shape" must be an array of sizes')
    if len(shape) not in (1, 2):
        raise MalformedRequestError(f"{place}: the shape {shape[:8]} has {len(shape)} dimensions, not 1 or 2")
    if not isinstance(parameters, dict):
        raise MalformedRequestError(f'{place}: "parameters" must be an object')
    if "shared_memory_region" in parameters:
        raise MalformedRequestError(f"{place}: this service has no shared memory; send the data in the request")
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise MalformedRequestError(f'{place}: "binary_data_size" must be a number of bytes')
    return TensorHeader(name, datatype, tuple(shape), size)


def decode_json(header: TensorHeader, data: object) -> Tensor:
    """Return the tensor with values of JSON, flat or nested as the shape; `null` is a missing value.

    Raises:
        MalformedRequestError: the number or the type of the values differs from the header.
    """
    place = f'input "{header.name[:MAX_NAME]}"'
    if not isinstance(data, list):
        raise MalformedRequestError(f'{place}: "data" must be an array')
    values = data
    if len(header.shape) == 2 and data and all(isinstance(row, list) and len(row) == header.shape[1] for row in data):
        values = [value for row in data for value in row]
    if len(values) != header.n_elements:
        raise MalformedRequestError(f"{place} has {len(values)} values, its shape {list(header.shape)} needs others")
    if not _are_of(header.datatype, values):
        raise MalformedRequestError(f"{place}: a value is not {header.datatype}")
    return Tensor(header.name, header.datatype, header.shape, values)


def _are_of(datatype: str, values: Sequence[object]) -> bool:
    """Return whether all values that are not missing have the JSON type and the range of a datatype."""
    allowed: tuple[type, ...] = {"BOOL": (bool,), "BYTES": (str,)}.get(datatype, (int,))
    if datatype in ("FP16", "FP32", "FP64", "BF16"):
        allowed = (int, float)
    if not set(map(type, values)) <= {*allowed, type(None)}:
        return False
    if allowed != (int,):
        return True
    limits, numbers = np.iinfo(DTYPES[datatype]), [value for value in values if isinstance(value, int)]
    return not numbers or (min(numbers) >= limits.min and max(numbers) <= limits.max)


def decode_binary(header: TensorHeader, data: bytes) -> Tensor:
    """Return the tensor with values in binary form. NaN is a missing value.

    Raises:
        MalformedRequestError: the number of bytes differs from the header, or a text is not UTF-8.
    """
    place = f'input "{header.name[:MAX_NAME]}"'
    if header.datatype == "BYTES":
        return Tensor(header.name, "BYTES", header.shape, _decode_texts(data, header.n_elements, place))
    dtype = np.dtype(DTYPES[header.datatype])
    if len(data) != header.n_elements * dtype.itemsize:
        raise MalformedRequestError(
            f"{place} has {len(data)} bytes, its shape {list(header.shape)} of {header.datatype} needs "
            f"{header.n_elements * dtype.itemsize}"
        )
    array = np.frombuffer(data, dtype)
    if header.datatype == "BF16":
        array = (array.astype("<u4") << 16).view("<f4")
    values = array.tolist()
    if array.dtype.kind == "f" and np.isnan(array).any():
        values = [None if isnan(value) else value for value in values]
    return Tensor(header.name, header.datatype, header.shape, values)


def _decode_texts(data: bytes, number: int, place: str) -> list[str]:
    texts: list[str] = []
    position = 0
    if number * _LENGTH.size > len(data):
        raise MalformedRequestError(f"{place} has too few bytes for {number} elements")
    for _ in range(number):
        start = position + _LENGTH.size
        if start > len(data) or start + (length := _LENGTH.unpack_from(data, position)[0]) > len(data):
            raise MalformedRequestError(f"{place}: element {len(texts)} ends after the data of the input")
        position = start + length
        try:
            texts.append(data[start:position].decode())
        except UnicodeDecodeError:
            raise MalformedRequestError(f"{place}: element {len(texts)} is not UTF-8") from None
    if position != len(data):
        raise MalformedRequestError(f"{place} has more bytes than its {number} elements")
    return texts


def encode_binary(datatype: str, values: Sequence[Any]) -> bytes:
    """Return the values of an output in binary form; a missing number becomes NaN."""
    if datatype == "BYTES":
        return encode_bytes([str(value).encode() for value in values])
    return np.array([nan if value is None else value for value in values], DTYPES[datatype]).tobytes()


def encode_bytes(elements: Iterable[bytes]) -> bytes:
    """Return elements of the datatype BYTES in binary form."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))
