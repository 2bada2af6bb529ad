"""Request bodies: content codings and invalid JSON constants. HEAD requests."""

import asyncio
import gzip
import json
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.api.body import BodyReader, parse_object
from modeltrace.errors import BusyError, MalformedRequestError
from modeltrace.inference.model import Model
from modeltrace_http.content_coding import (
    MAX_MEMBERS,
    DecompressedTooLargeError,
    DecompressionError,
    UnsupportedEncodingError,
    decompress,
    zstd,
)
from tests.helpers.in_process_services import RecordsService, records_service

Rows = list[dict[str, float]]


def _raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": _raw_deflate,
    "zstd": zstd.compress,
    "identity": bytes,
}


@pytest.fixture
def service(model: Model) -> Any:
    """Run the service with a body limit of 64 KiB."""
    with records_service(model, max_body_bytes=65_536) as running:
        yield running


def _post(service: RecordsService, body: bytes, coding: str, path: str = "/predict") -> httpx.Response:
    response: httpx.Response = service.client.post(path, content=body, headers={"Content-Encoding": coding})
    return response


@pytest.mark.parametrize("coding", COMPRESSORS)
def test_compressed_bodies_are_answered(service: RecordsService, rows: Rows, coding: str) -> None:
    """All routes accept gzip, deflate with and without zlib header, and zstd."""
    compress = COMPRESSORS[coding]
    response = _post(service, compress(orjson.dumps({"features": rows[0]})), coding)
    assert response.status_code == 200
    assert _post(service, compress(orjson.dumps({"rows": rows[:2]})), coding, "/predict/batch").status_code == 200
    label = {"prediction_id": response.json()["prediction_id"], "label": "no class"}
    assert _post(service, compress(orjson.dumps(label)), coding, "/feedback").status_code == 422


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "zstd, gzip", "unknown"])
def test_other_codings_are_415(service: RecordsService, coding: str) -> None:
    """The response lists the supported codings."""
    response = _post(service, b"{}", coding)

    assert (response.status_code, response.json()["error"]["type"]) == (415, "unsupported_encoding")
    assert response.headers["accept-encoding"] == "gzip, deflate, zstd, identity"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_an_invalid_compressed_body_is_400(service: RecordsService, coding: str) -> None:
    """An incomplete body, an empty body and a body with other data after its end are rejected, too."""
    packed = COMPRESSORS[coding](b'{"features": {}}')
    for body in (b'{"features": {}}', packed[:-3], packed + b"more", b""):
        response = _post(service, body, coding)
        assert response.status_code == 400
        assert "Content-Encoding" in response.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_decompressed_body_beyond_the_limit_is_413(service: RecordsService, coding: str) -> None:
    """The limit also applies to the decompressed body; a body of exactly this size is accepted."""
    padding = b" " * (65_536 - len(b'{"features": {}}'))
    assert _post(service, COMPRESSORS[coding](b'{"features": {}}' + padding), coding).status_code == 422
    response = _post(service, COMPRESSORS[coding](b'{"features": {}}' + padding + b" "), coding)
    assert response.status_code == 413
    assert (
        "the decompressed body exceeds 65536 bytes (MODELTRACE_MAX_BODY_BYTES)" in response.json()["error"]["message"]
    )


def test_all_incomplete_bodies_have_a_common_limit() -> None:
    """Clients that send large bodies slowly cannot exhaust the memory; completed bodies release their bytes."""

    async def check() -> None:
        reader, waiting = BodyReader(1000, 60), asyncio.Event()
        pieces: list[dict[str, Any]] = [{"type": "http.request", "body": bytes(900), "more_body": True}]

        def receiver() -> Callable[[], Any]:
            remaining = [*pieces]

            async def receive() -> dict[str, Any]:
                if remaining:
                    return remaining.pop()
                await waiting.wait()
                return {"type": "http.request", "body": bytes(100), "more_body": False}

            return receive

        slow = [asyncio.create_task(reader.read({"headers": []}, receiver())) for _ in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await reader.read({"headers": []}, receiver())
        waiting.set()
        assert [len(body) for body in await asyncio.gather(*slow)] == [1000] * 8
        assert len(await reader.read({"headers": []}, receiver())) == 1000

    asyncio.run(check())


def test_a_decompression_bomb_stops_at_the_limit() -> None:
    """1 GiB of zeros is not decompressed beyond the limit."""
    bomb = zstd.compress(bytes(2**20)) * 1024
    with pytest.raises(DecompressedTooLargeError):
        decompress(bomb, "zstd", 1000)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_members_are_limited(coding: str) -> None:
    """Each empty member needs a decompressor, and a small body could contain hundreds of thousands."""
    member = COMPRESSORS[coding](b"")
    assert decompress(member * MAX_MEMBERS, coding, 10) == b""
    with pytest.raises(DecompressionError, match="members"):
        decompress(member * (MAX_MEMBERS + 1), coding, 10)


def test_a_zstd_window_beyond_8_mib_is_rejected() -> None:
    """Otherwise the client would determine how much memory is allocated."""
    streamed = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    body = streamed.compress(bytes(100), zstd.ZstdCompressor.FLUSH_BLOCK) + streamed.flush()
    with pytest.raises(DecompressionError):
        decompress(body, "zstd", 2**20)


@given(body=st.binary(max_size=200), coding=st.sampled_from(["gzip", "deflate", "zstd", "br", ""]))
def test_any_bytes_are_decompressed_or_rejected(body: bytes, coding: str) -> None:
    """No other exception is raised."""
    with suppress(UnsupportedEncodingError, DecompressionError, DecompressedTooLargeError):
        assert len(decompress(body, coding, 1000)) <= 1000


@given(body=st.binary(max_size=2000), coding=st.sampled_from(["gzip", "deflate", "zstd"]), members=st.integers(1, 3))
def test_compression_round_trip(body: bytes, coding: str, members: int) -> None:
    """A body that is compressed in one or several members is decompressed to the same bytes."""
    assert decompress(COMPRESSORS[coding](body) * members, coding, 10_000) == body * members


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_round_trip_of_members_longer_than_a_chunk(coding: str) -> None:
    """A member may end at any position in a chunk."""
    body = random.Random(5).randbytes(150_000)  # noqa: S311  the same bytes each time
    packed = COMPRESSORS[coding](body)
    assert decompress(packed + packed, coding, 300_000) == body + body
    with pytest.raises(DecompressedTooLargeError):
        decompress(packed + packed, coding, 299_999)
    with pytest.raises(DecompressionError):
        decompress(packed + packed[:-1], coding, 300_000)


def _error_message(document: str) -> str:
    with pytest.raises(MalformedRequestError) as error:
        parse_object(document.encode())
    return str(error.value)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    ("document", "position"),
    [
        ('{"features": {"a": 1, "b c": %s}}', "features.b c (line 1, column "),
        ('{"rows": [{"a": 1},\n {"a": [1, %s]}]}', "rows[1].a[1] (line 2, column "),
        ('{"a": %s, "b": NaN}', "a (line 1, column "),
        ("[1, %s]", "[1] (line 1, column 5)"),
        ("%s", "line 1, column 1"),
        ('{"a": %s, broken', "line 1, column 7"),
    ],
)
def test_an_invalid_json_constant_is_explained(document: str, position: str, constant: str) -> None:
    """The message contains the constant, its position and its replacement."""
    message = _error_message(document % constant)

    assert f"the body is not JSON: {constant} at {position}" in message
    assert message.endswith(f"JSON has no {constant}: send a finite number, or null where the value is missing")


@pytest.mark.parametrize(
    ("constant", "replacement"),
    [
        ("None", "null"),
        ("True", "true"),
        ("nan", "a finite number"),
        ("1e999", "a finite number"),
        ("-1e999", "a finite"),
    ],
)
def test_other_constants_are_explained_too(constant: str, replacement: str) -> None:
    """Constants of Python, and numbers that are too large for a float."""
    assert f"{constant} at line 1, column 7; JSON has no {constant}: send {replacement}" in _error_message(
        f'{{"a": {constant}}}'
    )


def test_a_missing_value_of_pandas_is_explained(service: RecordsService, rows: Rows) -> None:
    """`json.dumps` writes NaN; the response names row and feature."""
    feature = next(iter(rows[0]))
    body = json.dumps({"rows": [rows[0], {**rows[1], feature: float("nan")}]})
    response = service.client.post("/predict/batch", content=body)

    assert response.status_code == 400
    assert f"NaN at rows[1].{feature} (line 1, column " in response.json()["error"]["message"]


@pytest.mark.parametrize("document", ['{"a": 1,}', '{"a" 1}', '{"a": -}', '{"a": "NaN', "{" * 500, '{"a": Nano}'])
def test_other_errors_keep_the_message_of_the_parser(document: str) -> None:
    """It contains line and column."""
    assert " at line 1, column " in _error_message(document)
    assert "JSON has no" not in _error_message(document)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    """Explaining an error never fails."""
    with suppress(MalformedRequestError):
        parse_object(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/model", "/docs", "/openapi.json"])
def test_head_is_answered_as_get(service: RecordsService, path: str) -> None:
    """Status and headers equal those of GET."""
    get, head = service.client.get(path), service.client.head(path)

    assert head.status_code == get.status_code
    assert head.headers.keys() == get.headers.keys()
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_a_post_route_is_405(service: RecordsService) -> None:
    """HEAD routes do not appear in the OpenAPI document."""
    assert service.client.head("/predict").status_code == 405
    documented = service.client.get("/openapi.json").json()["paths"]
    assert not [path for path, operations in documented.items() if "head" in operations]
