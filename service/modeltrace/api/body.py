"""Read request bodies: limited size and time, strict JSON."""

import asyncio
import json
from collections.abc import Mapping
from typing import Final

import orjson
from starlette.types import Receive, Scope

from modeltrace.api.json_constants import explain_constant
from modeltrace.errors import (
    BusyError,
    ClientDisconnectedError,
    MalformedRequestError,
    RequestTooLargeError,
    UnsupportedContentEncodingError,
)
from modeltrace_http.content_coding import (
    SUPPORTED_ENCODINGS,
    DecompressedTooLargeError,
    DecompressionError,
    UnsupportedEncodingError,
    decompress,
)

# Limit of the bytes of all bodies that are being received, as a multiple of the limit of one body.
MAX_CONCURRENT_BODIES: Final = 8


class BodyReader:
    """Reads bodies of at most `max_bytes`, compressed and decompressed, within `timeout` seconds."""

    def __init__(self, max_bytes: int, timeout: float) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._available_bytes = MAX_CONCURRENT_BODIES * max_bytes

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Read and decompress a body.

        Raises:
            RequestTooLargeError: the declared, received or decompressed body is too large.
            MalformedRequestError: the body did not arrive in time, or cannot be decompressed.
            UnsupportedContentEncodingError: the `Content-Encoding` is not supported.
            ClientDisconnectedError: the client disconnected before the body was complete.
            BusyError: the limit for all incomplete bodies is exceeded.
        """
        limit = self._max_bytes
        encoding = b""
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                raise RequestTooLargeError(
                    f"the body has {int(value)} bytes, the limit is {limit} (MODELTRACE_MAX_BODY_BYTES)"
                )
            if name == b"content-encoding":
                encoding = encoding + b", " + value if encoding else value
        chunks: list[bytes] = []
        size = reserved = 0
        try:
            async with asyncio.timeout(self._timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnectedError("the client disconnected before the request was complete")
                    chunk = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(chunk)
                    if size > limit:
                        raise RequestTooLargeError(f"the body exceeds {limit} bytes (MODELTRACE_MAX_BODY_BYTES)")
                    chunks.append(chunk)
                    if more:
                        self._reserve(len(chunk))
                        reserved += len(chunk)
        except TimeoutError:
            raise MalformedRequestError(f"the body did not arrive within {self._timeout:g} s") from None
        finally:
            self._available_bytes += reserved
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return await self._decompress(body, encoding.decode("latin-1")) if encoding else body

    def _reserve(self, size: int) -> None:
        """Count the bytes of an incomplete body.

        Raises:
            BusyError: the limit for all incomplete bodies is exceeded.
        """
        if size > self._available_bytes:
            raise BusyError("too many large bodies are being received; try again in a second")
        self._available_bytes -= size

    async def _decompress(self, body: bytes, encoding: str) -> bytes:
        """Decompress a body on a thread, since a small body may become large."""
        try:
            return await asyncio.to_thread(decompress, body, encoding, self._max_bytes)
        except UnsupportedEncodingError:
            raise UnsupportedContentEncodingError(
                f"Content-Encoding is {encoding[:64]!r}; this service accepts one of {SUPPORTED_ENCODINGS}"
            ) from None
        except DecompressionError as error:
            raise MalformedRequestError(f"the body is not {encoding}, as Content-Encoding declares: {error}") from None
        except DecompressedTooLargeError:
            raise RequestTooLargeError(
                f"the decompressed body exceeds {self._max_bytes} bytes (MODELTRACE_MAX_BODY_BYTES)"
            ) from None


def parse_object(body: bytes) -> Mapping[str, object]:
    """Parse a JSON object strictly: `NaN` is rejected, and the parser limits the nesting depth.

    Raises:
        MalformedRequestError: the body is not a JSON object.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = explain_constant(error) or f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise MalformedRequestError(f"the body is not JSON: {reason}") from None
    if not isinstance(parsed, dict):
        raise MalformedRequestError("the body must be a JSON object")
    return parsed


def parse_lenient_object(body: bytes) -> Mapping[str, object]:
    """Parse a JSON object in which `NaN` is a missing value, as the clients of other protocols write it.

    Raises:
        MalformedRequestError: the body is not a JSON object, even if `NaN` counts as a JSON value.
    """
    try:
        return parse_object(body)
    except MalformedRequestError:
        if b"NaN" not in body:
            raise
        try:
            parsed = json.loads(body, parse_constant=_parse_nan)
            return parse_object(orjson.dumps(parsed))  # which checks what `json` accepts, such as single surrogates
        except (ValueError, RecursionError, TypeError):
            pass
        raise


def _parse_nan(constant: str) -> None:
    """Return the value of `NaN`; no other constant has one."""
    if constant != "NaN":
        raise ValueError(constant)


def get_required(parsed: Mapping[str, object], key: str, *optional: str) -> object:
    """Return the value of the key that a body must have.

    Raises:
        MalformedRequestError: the key is missing, or the body has a key that is neither required nor optional.
    """
    if key not in parsed:
        raise MalformedRequestError(f'the body lacks "{key}"')
    if len(parsed) > 1 and (others := sorted(parsed.keys() - {key, *optional})):
        allowed = ", ".join(f'"{name}"' for name in (key, *optional))
        raise MalformedRequestError(f'the body must only contain {allowed}, not "{others[0][:64]}"')
    return parsed[key]
