"""Reading a request body: bounded in bytes and in time, strict JSON."""

import asyncio
from collections.abc import Mapping

import orjson
from fastapi import Request

from service.errors import MalformedRequestError, RequestTooLargeError

BODY_SECONDS = 30


async def read_body(request: Request, limit: int) -> bytes:
    """Read at most `limit` bytes, whatever the client announces.

    Raises:
        RequestTooLargeError: more bytes were announced or came.
        MalformedRequestError: the body did not arrive in time.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise RequestTooLargeError(f"the body has {announced} bytes, the limit is {limit} (MODELTRACE_MAX_BODY_BYTES)")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise RequestTooLargeError(f"the body exceeds {limit} bytes (MODELTRACE_MAX_BODY_BYTES)")
                chunks.append(chunk)
    except TimeoutError:
        raise MalformedRequestError(f"the body did not arrive within {BODY_SECONDS} s") from None
    return b"".join(chunks)


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
