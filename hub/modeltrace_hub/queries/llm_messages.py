"""Convert messages of LLM applications, which have many shapes, to one shape.

The shapes are those of the semantic conventions (`role` and `parts`), of the APIs that the older conventions copy
(`role`, `content`, `tool_calls`), and of OpenInference (`message.role`, `message.content`, …). What has no known shape
is shown as JSON, so nothing is lost and nothing fails.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

MAX_TEXT: Final = 20_000
MAX_NAME: Final = 200
MAX_PARTS: Final = 50

PartKind = Literal["text", "reasoning", "tool_call", "tool_result", "data"]

_KINDS: Final[Mapping[str, PartKind]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "refusal"), "text"),
    **dict.fromkeys(("reasoning", "thinking"), "reasoning"),
    **dict.fromkeys(("tool_call", "tool_use", "function", "function_call", "server_tool_call"), "tool_call"),
    **dict.fromkeys(("tool_call_response", "tool_result", "server_tool_call_response"), "tool_result"),
}
# Where the text of a part is, in the order of search.
_TEXTS: Final[Mapping[PartKind, tuple[str, ...]]] = {
    "text": ("content", "text", "refusal"),
    "reasoning": ("content", "thinking", "text"),
    "tool_call": ("arguments", "input", "server_tool_call"),
    "tool_result": ("response", "result", "content", "output", "server_tool_call_response"),
    "data": (),
}
_IDS: Final = ("id", "tool_call_id", "tool_use_id", "call_id")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message: a text, a call of a tool, its result, or other data as JSON.

    `omitted` is the number of characters after the first `MAX_TEXT`.
    """

    kind: PartKind
    text: str
    name: str | None = None  # of the tool
    id: str | None = None  # of the call of the tool
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `omitted_parts` is the number of parts after the first `MAX_PARTS`."""

    role: str
    parts: Sequence[Part]
    finish_reason: str | None = None
    omitted_parts: int = 0


def read_messages(value: object, role: str) -> list[Message]:
    """Return the messages of a value: a list of messages, one message, a text, or the JSON of one of these.

    Args:
        value: the value of an attribute, or the body of a log record.
        role: the role of a message that has none.
    """
    value = parse_json(value)
    if isinstance(value, Mapping):
        inner = value.get("messages")
        value = inner if isinstance(inner, list) else [value]
    if isinstance(value, list):
        parts = [item for item in value if isinstance(item, Mapping) and "type" in item and "role" not in item]
        if parts and len(parts) == len(value):  # the parts of one message
            value = [{"parts": value}]
    items = value if isinstance(value, list) else [value]
    messages = (read_message(item, role) for item in items if item is not None)
    return [message for message in messages if message.parts or message.finish_reason]


def read_message(value: object, role: str) -> Message:
    """Return one message."""
    value = parse_json(value)
    if not isinstance(value, Mapping):
        return Message(role, [_text_part(value)] if value not in (None, "") else [])
    finish_reason = _name(value.get("finish_reason"))
    inner = value.get("message")
    if isinstance(inner, Mapping):  # a choice, or a message of OpenInference
        value = inner
        finish_reason = finish_reason or _name(value.get("finish_reason"))
    own_role = _name(value.get("role")) or role
    parts = [*_content_parts(value, own_role), *(_tool_call(item) for item in _items(value.get("tool_calls")))]
    function_call = value.get("function_call")
    if isinstance(function_call, Mapping):
        parts.append(_tool_call(function_call))
    known = {"role", "parts", "content", "contents", "tool_calls", "function_call", "finish_reason", "index", "name"}
    if not parts and not known & value.keys():
        parts = [_part("data", value)]
    return Message(own_role, parts[:MAX_PARTS], finish_reason, max(len(parts) - MAX_PARTS, 0))


def tool_part(kind: Literal["tool_call", "tool_result"], value: object, name: object, id_: object) -> Part:
    """Return the call of a tool, or its result."""
    return _part(kind, value, name, id_)


def parse_json(value: object) -> object:
    """Return the list or object whose JSON a text is, and any other value unchanged."""
    if not isinstance(value, str) or value[:1] not in {"[", "{"}:
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:  # a text that begins with a bracket
        return value


def _content_parts(message: Mapping[str, Any], role: str) -> list[Part]:
    """Return the parts of a message, without the calls of tools."""
    if "parts" in message:
        return [_read_part(item) for item in _items(parse_json(message["parts"]))]
    content = message.get("content")
    contents = content if isinstance(content, list) else _items(message.get("contents"))
    if contents and all(isinstance(item, Mapping) for item in contents):
        return [_read_part(item) for item in contents]
    if content in (None, ""):
        return []
    if role == "tool" or "tool_call_id" in message:
        return [_part("tool_result", content, message.get("name"), _first(message, _IDS))]
    return [_text_part(content)]


def _read_part(value: object) -> Part:
    """Return one part."""
    if not isinstance(value, Mapping):
        return _text_part(value)
    inner = value.get("message_content")
    if isinstance(inner, Mapping):  # OpenInference
        value = inner
    type_ = value.get("type")
    kind = _KINDS.get(type_, "data") if isinstance(type_, str) else "text" if "text" in value else "data"
    if kind == "tool_call":
        return _tool_call(value)
    text = _first(value, _TEXTS[kind])
    if text is None:  # an image, a file, or a shape that is not known
        return _part("data", value)
    return _part(kind, text, value.get("name"), _first(value, _IDS))


def _tool_call(value: object) -> Part:
    """Return the call of a tool."""
    if not isinstance(value, Mapping):
        return _part("tool_call", value)
    inner = value.get("tool_call")
    if isinstance(inner, Mapping):  # OpenInference
        value = inner
    function = value.get("function")
    function = function if isinstance(function, Mapping) else value
    return _part("tool_call", _first(function, _TEXTS["tool_call"]), function.get("name"), _first(value, _IDS))


def _text_part(value: object) -> Part:
    return _part("text" if isinstance(value, str) else "data", value)


def _part(kind: PartKind, value: object, name: object = None, id_: object = None) -> Part:
    text = as_text(value)
    return Part(kind, text[:MAX_TEXT], _name(name), _name(id_), max(len(text) - MAX_TEXT, 0))


def as_text(value: object) -> str:
    """Return a text as it is, "" for null, and anything else as indented JSON."""
    if isinstance(value, str) or value is None:
        return value or ""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:  # too many levels
        return "(nested too deeply to be shown)"


def _name(value: object) -> str | None:
    """Return a short text; None for null and an empty text."""
    return as_text(value)[:MAX_NAME] or None


def _first(values: Mapping[str, Any], keys: Iterable[str]) -> object:
    return next((values[key] for key in keys if values.get(key) is not None), None)


def _items(value: object) -> list[Any]:
    """Return the items of a list; of anything else but null, a list with it."""
    return value if isinstance(value, list) else [] if value is None else [value]
