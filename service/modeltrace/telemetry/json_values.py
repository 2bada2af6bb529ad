"""Replaces values that orjson rejects, so that each log line can be written."""

from collections.abc import Mapping

import orjson


def replace_surrogates(text: str) -> str:
    """Replace each lone surrogate, which UTF-8 cannot represent, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def to_json_compatible(value: object) -> object:
    """Return a value without lone surrogates, in which integers of any size and keys of any type are encodable.

    Raises:
        RecursionError: the value contains itself, or is nested too deeply.
        ValueError: an integer has more digits than Python converts to text.
    """
    if isinstance(value, Mapping):
        return {_to_json_key(key): to_json_compatible(content) for key, content in value.items()}
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return orjson.Fragment(str(int(value)))
    if isinstance(value, list | tuple):
        return [to_json_compatible(content) for content in value]
    return value


def _to_json_key(key: object) -> str:
    return replace_surrogates(key if isinstance(key, str) else str(key))
