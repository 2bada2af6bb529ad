"""Tensors of the Open Inference Protocol: every datatype in both forms, and what is rejected."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import MalformedRequestError
from modeltrace.protocols.tensors import DTYPES, Tensor, decode_binary, decode_json, encode_binary, parse_header

INTEGERS = [name for name in DTYPES if "INT" in name]


def described(datatype: str, shape: list[Any], **more: Any) -> dict[str, Any]:
    """Return the description of an input."""
    return {"name": "x", "datatype": datatype, "shape": shape, **more}


def from_json(datatype: str, shape: list[int], data: Any) -> Tensor:
    """Decode a tensor in JSON."""
    return decode_json(parse_header(described(datatype, shape), "inputs[0]"), data)


def from_binary(datatype: str, shape: list[int], data: bytes) -> Tensor:
    """Decode a tensor in binary form."""
    return decode_binary(parse_header(described(datatype, shape), "inputs[0]"), data)


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_have_the_range_of_their_type(datatype: str) -> None:
    """The least and the largest value are decoded in both forms; in JSON, the next values are rejected."""
    limits = np.iinfo(DTYPES[datatype])
    extremes = [int(limits.min), int(limits.max)]

    assert from_json(datatype, [2], extremes).values == extremes
    assert from_binary(datatype, [2], encode_binary(datatype, extremes)).values == extremes
    for beyond in (extremes[0] - 1, extremes[1] + 1):
        with pytest.raises(MalformedRequestError, match=f'input "x": a value is not {datatype}'):
            from_json(datatype, [1], [beyond])


@pytest.mark.parametrize(("datatype", "value"), [("FP16", 0.5), ("FP32", 0.1), ("FP64", 0.1), ("BF16", 1.5)])
def test_floats_are_little_endian_and_nan_is_missing(datatype: str, value: float) -> None:
    """The values of a type with fewer digits are those that it represents."""
    raw = {
        "FP16": struct.pack("<2e", value, math.nan),
        "FP32": struct.pack("<2f", value, math.nan),
        "FP64": struct.pack("<2d", value, math.nan),
        "BF16": struct.pack("<f", value)[2:] + struct.pack("<f", math.nan)[2:],
    }[datatype]
    expected = float(np.float32(value)) if datatype == "FP32" else value

    assert from_binary(datatype, [2], raw).values == [expected, None]
    assert from_json(datatype, [2], [value, None]).values == [value, None]


def test_booleans_are_single_bytes() -> None:
    """In JSON, they are `true` and `false`, not numbers."""
    assert from_binary("BOOL", [3], b"\x01\x00\x01").values == [True, False, True]
    assert from_json("BOOL", [2], [True, False]).values == [True, False]
    with pytest.raises(MalformedRequestError, match="a value is not BOOL"):
        from_json("BOOL", [1], [1])


@given(st.lists(st.text()))
def test_texts_are_the_same_after_both_directions(texts: list[str]) -> None:
    """Elements of BYTES are UTF-8 with a length; empty texts and any character are kept."""
    raw = encode_binary("BYTES", texts)

    assert from_binary("BYTES", [len(texts)], raw).values == texts


@given(st.lists(st.floats(allow_nan=False)))
def test_numbers_are_the_same_after_both_directions(numbers: list[float]) -> None:
    """FP64 keeps each bit."""
    assert from_binary("FP64", [len(numbers), 1], encode_binary("FP64", numbers)).values == numbers


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_json_data_may_be_flat_or_nested(data: list[Any]) -> None:
    """Both are in row-major order."""
    assert from_json("INT64", [2, 2], data).values == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("INT64", None, '"data" must be an array'),
        ("INT64", "12", '"data" must be an array'),
        ("INT64", [1], r"has 1 values, its shape \[2\] needs others"),
        ("INT64", [1, 2, 3], "has 3 values"),
        ("INT64", [1, 1.5], "a value is not INT64"),
        ("INT64", [1, True], "a value is not INT64"),
        ("FP64", [1, "2"], "a value is not FP64"),
        ("FP64", [1, [2]], "a value is not FP64"),
        ("FP64", [1, True], "a value is not FP64"),
        ("BYTES", ["a", 1], "a value is not BYTES"),
        ("BYTES", [{}, "a"], "a value is not BYTES"),
    ],
)
def test_json_data_must_have_the_number_and_the_type_of_the_header(datatype: str, data: Any, message: str) -> None:
    """The message names the input."""
    with pytest.raises(MalformedRequestError, match=f'input "x".*{message}'):
        from_json(datatype, [2], data)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP64", [2], bytes(15), r"has 15 bytes, its shape \[2\] of FP64 needs 16"),
        ("FP64", [2], bytes(17), "has 17 bytes"),
        ("BOOL", [2, 1], b"", "has 0 bytes"),
        ("BYTES", [2], b"\x01\x00\x00\x00a", "too few bytes for 2 elements"),
        ("BYTES", [1], b"\x02\x00\x00\x00a", "element 0 ends after the data"),
        ("BYTES", [2], b"\x03\x00\x00\x00abc\x00", "element 1 ends after the data"),
        ("BYTES", [1], b"\x01\x00\x00\x00ab", "more bytes than its 1 elements"),
        ("BYTES", [1], b"\x01\x00\x00\x00\xff", "element 0 is not UTF-8"),
        ("BYTES", [2**62], b"", "too few bytes"),
    ],
)
def test_binary_data_must_have_the_size_of_the_header(
    datatype: str, shape: list[int], data: bytes, message: str
) -> None:
    """No element is read beyond the data of its input."""
    with pytest.raises(MalformedRequestError, match=f'input "x".*{message}'):
        from_binary(datatype, shape, data)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, r'inputs\[0\] must be an object with a "name"'),
        ({"name": 1}, r'inputs\[0\] must be an object with a "name"'),
        (described("FLOAT", [1]), '"datatype" must be one of BOOL, UINT8'),
        (described([], [1]), '"datatype" must be one of'),  # type: ignore[arg-type]  # on purpose
        (described("FP64", [-1]), '"shape" must be an array of sizes'),
        (described("FP64", [True]), '"shape" must be an array of sizes'),
        (described("FP64", [1.0]), '"shape" must be an array of sizes'),
        (described("FP64", []), r"the shape \[\] has 0 dimensions, not 1 or 2"),
        (described("FP64", [1, 1, 1]), "has 3 dimensions"),
        (described("FP64", [1], parameters=[1]), '"parameters" must be an object'),
        (described("FP64", [1], parameters={"binary_data_size": -1}), "must be a number of bytes"),
        (described("FP64", [1], parameters={"binary_data_size": True}), "must be a number of bytes"),
        (described("FP64", [1], parameters={"shared_memory_region": "r"}), "no shared memory"),
    ],
)
def test_a_header_must_be_complete(header: Any, message: str) -> None:
    """Name, datatype and shape are needed; the message says which one is wrong."""
    with pytest.raises(MalformedRequestError, match=message):
        parse_header(header, "inputs[0]")


def test_missing_numbers_of_an_output_are_nan() -> None:
    """A classifier without probabilities has no confidence."""
    (value,) = struct.unpack("<d", encode_binary("FP64", [None]))

    assert math.isnan(value)
