"""Reading a request body: bounded in bytes and in time, strict JSON."""

import asyncio
from collections.abc import Mapping

import orjson
from starlette.types import Receive, Scope

from service.errors import ClientGoneError, MalformedRequestError, RequestTooLargeError

BODY_SECONDS = 30


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read at most `limit` bytes, whatever the client announces.

    Raises:
        RequestTooLargeError: more bytes were announced or came.
        MalformedRequestError: the body did not arrive in time.
        ClientGoneError: the client went away before it had sent all of it.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            announced = int(value)
            raise RequestTooLargeError(
                f"the body has {announced} bytes, the limit is {limit} (MODELTRACE_MAX_BODY_BYTES)"
            )
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError("the client went away before it had sent its request")
                chunk = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(chunk)
                if size > limit:
                    raise RequestTooLargeError(f"the body exceeds {limit} bytes (MODELTRACE_MAX_BODY_BYTES)")
                chunks.append(chunk)
    except TimeoutError:
        raise MalformedRequestError(f"the body did not arrive within {BODY_SECONDS} s") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_object(body: bytes) -> Mapping[str, object]:
    """Parse a JSON object. Strict: `NaN` is not JSON, and nesting is bounded by the parser.

    Raises:
        MalformedRequestError: it is not JSON, or not an object.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not JSON: {error.msg} at line {error.lineno}") from None
    if not isinstance(parsed, dict):
        raise MalformedRequestError("the body must be a JSON object")
    return parsed


def only_key(parsed: Mapping[str, object], key: str) -> object:
    """The value of the one key that a call takes.

    Raises:
        MalformedRequestError: it is missing, or there is another.
    """
    if key not in parsed:
        raise MalformedRequestError(f'the body lacks "{key}"')
    if others := sorted(parsed.keys() - {key}):
        raise MalformedRequestError(f'the body takes "{key}" alone, not "{others[0][:64]}"')
    return parsed[key]
