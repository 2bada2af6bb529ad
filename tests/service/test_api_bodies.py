"""Bodies: codings, JSON's missing constants; HEAD where GET is."""

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
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": _raw_deflate,
    "zstd": zstd.compress,
    "identity": bytes,
}


@pytest.fixture
def ours(model: Model) -> Any:
    """The service, with a limit of 64 KiB for bodies."""
    with records_service(model, max_body_bytes=65_536) as found:
        yield found


def _post(ours: RecordsService, body: bytes, coding: str, path: str = "/predict") -> httpx.Response:
    answer: httpx.Response = ours.client.post(path, content=body, headers={"Content-Encoding": coding})
    return answer


@pytest.mark.parametrize("coding", PACKERS)
def test_packed_bodies_are_answered(ours: RecordsService, rows: Rows, coding: str) -> None:
    """gzip, deflate with and without zlib's header, and zstd, by each of the calls."""
    packer = PACKERS[coding]
    answer = _post(ours, packer(orjson.dumps({"features": rows[0]})), coding)
    assert answer.status_code == 200
    assert _post(ours, packer(orjson.dumps({"rows": rows[:2]})), coding, "/predict/batch").status_code == 200
    label = {"prediction_id": answer.json()["prediction_id"], "label": "no class"}
    assert _post(ours, packer(orjson.dumps(label)), coding, "/feedback").status_code == 422


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "zstd, gzip", "unknown"])
def test_other_codings_are_415(ours: RecordsService, coding: str) -> None:
    """The answer says which ones are taken."""
    answer = _post(ours, b"{}", coding)

    assert (answer.status_code, answer.json()["error"]["type"]) == (415, "unsupported_encoding")
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd, identity"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_body_that_is_not_packed_as_it_says_is_400(ours: RecordsService, coding: str) -> None:
    """So is one that is cut off, empty, or has something else behind its end."""
    packed = PACKERS[coding](b'{"features": {}}')
    for body in (b'{"features": {}}', packed[:-3], packed + b"more", b""):
        answer = _post(ours, body, coding)
        assert answer.status_code == 400
        assert "Content-Encoding" in answer.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_body_that_expands_beyond_the_limit_is_413(ours: RecordsService, coding: str) -> None:
    """The limit holds for what a body becomes, too; exactly as much as it allows is taken."""
    padding = b" " * (65_536 - len(b'{"features": {}}'))
    assert _post(ours, PACKERS[coding](b'{"features": {}}' + padding), coding).status_code == 422
    answer = _post(ours, PACKERS[coding](b'{"features": {}}' + padding + b" "), coding)
    assert answer.status_code == 413
    assert "the decompressed body exceeds 65536 bytes (MODELTRACE_MAX_BODY_BYTES)" in answer.json()["error"]["message"]


def test_bodies_that_are_being_received_are_limited_together() -> None:
    """Clients that send large bodies slowly cannot fill the memory; what they held is free once they are gone."""

    async def check() -> None:
        reader, waiting = BodyReader(1000, 60), asyncio.Event()
        pieces: list[dict[str, Any]] = [{"type": "http.request", "body": bytes(900), "more_body": True}]

        def receiver() -> Callable[[], Any]:
            left = [*pieces]

            async def receive() -> dict[str, Any]:
                if left:
                    return left.pop()
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


def test_a_bomb_is_expanded_to_its_limit_only() -> None:
    """Of 1 GiB of zeros no more than the limit is ever held."""
    bomb = zstd.compress(bytes(2**20)) * 1024
    with pytest.raises(DecompressedTooLargeError):
        decompress(bomb, "zstd", 1000)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_members_are_limited(coding: str) -> None:
    """Empty members, of which a small body holds hundreds of thousands, cost a decompressor each."""
    member = PACKERS[coding](b"")
    assert decompress(member * MAX_MEMBERS, coding, 10) == b""
    with pytest.raises(DecompressionError, match="members"):
        decompress(member * (MAX_MEMBERS + 1), coding, 10)


def test_a_zstd_window_beyond_8_mib_is_refused() -> None:
    """Otherwise the sender would decide how much memory is set aside."""
    streamed = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    body = streamed.compress(bytes(100), zstd.ZstdCompressor.FLUSH_BLOCK) + streamed.flush()
    with pytest.raises(DecompressionError):
        decompress(body, "zstd", 2**20)


@given(body=st.binary(max_size=200), coding=st.sampled_from(["gzip", "deflate", "zstd", "br", ""]))
def test_any_bytes_are_expanded_or_refused(body: bytes, coding: str) -> None:
    """Nothing else is ever raised."""
    with suppress(UnsupportedEncodingError, DecompressionError, DecompressedTooLargeError):
        assert len(decompress(body, coding, 1000)) <= 1000


@given(body=st.binary(max_size=2000), coding=st.sampled_from(["gzip", "deflate", "zstd"]), members=st.integers(1, 3))
def test_what_is_packed_comes_out_again(body: bytes, coding: str, members: int) -> None:
    """In one member or several."""
    assert decompress(PACKERS[coding](body) * members, coding, 10_000) == body * members


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_members_longer_than_a_slice_come_out_again(coding: str) -> None:
    """A member may end anywhere in what is uncompressed at a time."""
    body = random.Random(5).randbytes(150_000)  # noqa: S311  the same bytes each time
    packed = PACKERS[coding](body)
    assert decompress(packed + packed, coding, 300_000) == body + body
    with pytest.raises(DecompressedTooLargeError):
        decompress(packed + packed, coding, 299_999)
    with pytest.raises(DecompressionError):
        decompress(packed + packed[:-1], coding, 300_000)


def _refusal(document: str) -> str:
    with pytest.raises(MalformedRequestError) as error:
        parse_object(document.encode())
    return str(error.value)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    ("document", "place"),
    [
        ('{"features": {"a": 1, "b c": %s}}', "features.b c (line 1, column "),
        ('{"rows": [{"a": 1},\n {"a": [1, %s]}]}', "rows[1].a[1] (line 2, column "),
        ('{"a": %s, "b": NaN}', "a (line 1, column "),
        ("[1, %s]", "[1] (line 1, column 5)"),
        ("%s", "line 1, column 1"),
        ('{"a": %s, broken', "line 1, column 7"),
    ],
)
def test_a_constant_that_json_does_not_have_is_named(document: str, place: str, constant: str) -> None:
    """The message says which one, where, and what to send in its place."""
    message = _refusal(document % constant)

    assert f"the body is not JSON: {constant} at {place}" in message
    assert message.endswith(f"JSON has no {constant}: send a finite number, or null where the value is missing")


@pytest.mark.parametrize(
    ("constant", "instead"),
    [
        ("None", "null"),
        ("True", "true"),
        ("nan", "a finite number"),
        ("1e999", "a finite number"),
        ("-1e999", "a finite"),
    ],
)
def test_other_constants_are_named_too(constant: str, instead: str) -> None:
    """Those of Python, and numbers beyond what a float can be."""
    assert f"{constant} at line 1, column 7; JSON has no {constant}: send {instead}" in _refusal(f'{{"a": {constant}}}')


def test_what_pandas_makes_of_a_gap_is_explained(ours: RecordsService, rows: Rows) -> None:
    """`json.dumps` writes NaN; the answer names row and feature."""
    feature = next(iter(rows[0]))
    body = json.dumps({"rows": [rows[0], {**rows[1], feature: float("nan")}]})
    answer = ours.client.post("/predict/batch", content=body)

    assert answer.status_code == 400
    assert f"NaN at rows[1].{feature} (line 1, column " in answer.json()["error"]["message"]


@pytest.mark.parametrize("document", ['{"a": 1,}', '{"a" 1}', '{"a": -}', '{"a": "NaN', "{" * 500, '{"a": Nano}'])
def test_other_errors_keep_the_parsers_words(document: str) -> None:
    """With line and column."""
    assert " at line 1, column " in _refusal(document)
    assert "JSON has no" not in _refusal(document)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Explaining an error never fails."""
    with suppress(MalformedRequestError):
        parse_object(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/model", "/docs", "/openapi.json"])
def test_head_is_answered_like_get(ours: RecordsService, path: str) -> None:
    """Status and headers are those of GET."""
    get, head = ours.client.get(path), ours.client.head(path)

    assert head.status_code == get.status_code
    assert head.headers.keys() == get.headers.keys()
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_what_is_posted_is_405(ours: RecordsService) -> None:
    """It says which method is taken, and the documentation names no HEAD."""
    assert ours.client.head("/predict").status_code == 405
    documented = ours.client.get("/openapi.json").json()["paths"]
    assert not [path for path, calls in documented.items() if "head" in calls]
