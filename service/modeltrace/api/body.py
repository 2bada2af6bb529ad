"""Reading a request body: bounded in bytes and in time, strict JSON."""

import asyncio
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

# All bodies that are being received may have so many times the bytes that one may have.
MAX_CONCURRENT_BODIES: Final = 8


class BodyReader:
    """Reads bodies of at most `max_bytes`, also once they are uncompressed, within `timeout` seconds."""

    def __init__(self, max_bytes: int, timeout: float) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._room = MAX_CONCURRENT_BODIES * max_bytes

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Read a body, whatever the client announces, and uncompress it.

        Raises:
            RequestTooLargeError: more bytes were announced or came, or it expands to more.
            MalformedRequestError: the body did not arrive in time, or is not what `Content-Encoding` says.
            UnsupportedCodingRequestError: `Content-Encoding` is none that can be uncompressed.
            ClientGoneError: the client went away before it had sent all of it.
            BusyError: all bodies that are being received have more bytes than they may.
        """
        limit = self._max_bytes
        coding = b""
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                announced = int(value)
                raise RequestTooLargeError(
                    f"the body has {announced} bytes, the limit is {limit} (MODELTRACE_MAX_BODY_BYTES)"
                )
            if name == b"content-encoding":
                coding = coding + b", " + value if coding else value
        chunks: list[bytes] = []
        size = held = 0
        try:
            async with asyncio.timeout(self._timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnectedError("the client went away before it had sent its request")
                    chunk = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(chunk)
                    if size > limit:
                        raise RequestTooLargeError(f"the body exceeds {limit} bytes (MODELTRACE_MAX_BODY_BYTES)")
                    chunks.append(chunk)
                    if more:
                        self._hold(len(chunk))
                        held += len(chunk)
        except TimeoutError:
            raise MalformedRequestError(f"the body did not arrive within {self._timeout:g} s") from None
        finally:
            self._room += held
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return await self._expand(body, coding.decode("latin-1")) if coding else body

    def _hold(self, size: int) -> None:
        """Account for bytes of a body that is not complete.

        Raises:
            BusyError: there is no room for them.
        """
        if size > self._room:
            raise BusyError("too many large bodies are being received; try again in a second")
        self._room -= size

    async def _expand(self, body: bytes, coding: str) -> bytes:
        """Uncompress a body on a thread: a small one can expand to a large one."""
        try:
            return await asyncio.to_thread(decompress, body, coding, self._max_bytes)
        except UnsupportedEncodingError:
            raise UnsupportedContentEncodingError(
                f"Content-Encoding is {coding[:64]!r}; this service takes one of {SUPPORTED_ENCODINGS}"
            ) from None
        except DecompressionError as error:
            raise MalformedRequestError(f"the body is not {coding}, as Content-Encoding says: {error}") from None
        except DecompressedTooLargeError:
            raise RequestTooLargeError(
                f"the body expands to more than {self._max_bytes} bytes (MODELTRACE_MAX_BODY_BYTES)"
            ) from None


def parse_object(body: bytes) -> Mapping[str, object]:
    """Parse a JSON object. Strict: `NaN` is not JSON, and nesting is bounded by the parser.

    Raises:
        MalformedRequestError: it is not JSON, or not an object.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = explain_constant(error) or f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise MalformedRequestError(f"the body is not JSON: {reason}") from None
    if not isinstance(parsed, dict):
        raise MalformedRequestError("the body must be a JSON object")
    return parsed


def get_only_key(parsed: Mapping[str, object], key: str) -> object:
    """The value of the one key that a call takes.

    Raises:
        MalformedRequestError: it is missing, or there is another.
    """
    if key not in parsed:
        raise MalformedRequestError(f'the body lacks "{key}"')
    if others := sorted(parsed.keys() - {key}):
        raise MalformedRequestError(f'the body takes "{key}" alone, not "{others[0][:64]}"')
    return parsed[key]
