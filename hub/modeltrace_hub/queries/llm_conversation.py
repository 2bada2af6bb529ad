"""Read the conversation of a span of an LLM application: messages, calls of tools and their results.

Instrumentations send messages in several ways, which are called sources here. For each direction (input or output), all
messages are read from the first source that has any.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from modeltrace_hub.queries.llm_attributes import LlmCall, read_llm_call
from modeltrace_hub.queries.llm_messages import MAX_NAME, Message, as_text, parse_json, read_messages, tool_part
from modeltrace_hub.queries.reader import Record

# Of a longer conversation, the first messages and the last ones are shown.
MAX_FIRST_MESSAGES: Final = 10
MAX_LAST_MESSAGES: Final = 90
MAX_TOOLS: Final = 100
MAX_TOTAL_TEXT: Final = 400_000

Direction = Literal["input", "output"]
Names = tuple[tuple[str, Direction, str], ...]

_MESSAGE_ROLES: Final[Mapping[str, str]] = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_CHOICE: Final = "gen_ai.choice"
# Events whose attributes contain messages. The attributes of a span may contain them in the same form.
_DETAILS: Final = ("gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion")
MESSAGE_EVENTS: Final = frozenset((*_MESSAGE_ROLES, _CHOICE, *_DETAILS))
# The attributes that contain messages, each with its direction, and with the role of messages that name no role.
_ATTRIBUTES: Final[Names] = (
    ("gen_ai.system_instructions", "input", "system"),
    ("gen_ai.input.messages", "input", "user"),
    ("gen_ai.output.messages", "output", "assistant"),
)
_OLDER_ATTRIBUTES: Final[Names] = (
    ("gen_ai.prompt", "input", "user"),
    ("gen_ai.completion", "output", "assistant"),
)
_PLAIN_ATTRIBUTES: Final[Names] = (
    ("input.value", "input", "user"),
    ("output.value", "output", "assistant"),
)
# Attributes that each contain one value of one message, such as `gen_ai.prompt.0.content`.
_INDEXED: Final = re.compile(
    r"(gen_ai\.prompt|gen_ai\.completion|llm\.input_messages|llm\.output_messages)\.([0-9]{1,6})\.(.+)", re.DOTALL
)
_TOOL_ARGUMENTS: Final = ("gen_ai.tool.call.arguments", "tool.parameters")
_TOOL_RESULT: Final = "gen_ai.tool.call.result"
_TOOL_NAMES: Final = ("gen_ai.tool.name", "tool.name")
_TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
# Maximum number of levels in the name of such an attribute. No known name has more.
_MAX_LEVELS: Final = 10


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of a span.

    Attributes:
        call: the LLM call; None for a span of an agent, a tool or a workflow.
        messages: the messages in their order; if there are more than `MAX_FIRST_MESSAGES + MAX_LAST_MESSAGES`, the
            first and the last ones.
        omitted_at: the position of the messages that are left out.
        omitted: the number of messages that are left out.
        tools: names of the tools that the model could call.
        attributes: the names of the span's attributes from which the messages and tools were read.
        events: the names of the events from which the messages were read; empty without messages.
    """

    call: LlmCall | None
    messages: Sequence[Message]
    omitted_at: int
    omitted: int
    tools: Sequence[str]
    attributes: Sequence[str]
    events: Sequence[str]


@dataclass(slots=True)
class _Side:
    """The messages of one direction, and the attributes that have them."""

    messages: list[Message] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)


_Sides = dict[Direction, _Side]
_Event = tuple[str, object, Record]  # name, body, attributes


def _empty() -> _Sides:
    """Return two sides without messages."""
    return {"input": _Side(), "output": _Side()}


def read_conversation(span: Record, logs: Iterable[Record]) -> Conversation | None:
    """Return the conversation of a span; None if it is not a span of an LLM application.

    Args:
        span: a span with `attributes` and `events`.
        logs: the log records of the span, by time, from the query `list_trace_llm_logs`.
    """
    attributes: Record = span["attributes"]
    if not any(key.startswith(("gen_ai.", "openinference.")) for key in attributes):
        return None
    events: list[_Event] = [(event["name"], None, event["attributes"]) for event in span["events"]]
    events += [_log_event(log) for log in logs]
    details = [items for name, _, items in events if name in _DETAILS]
    sources: tuple[Callable[[], _Sides], ...] = (
        lambda: _from_attributes([attributes], _ATTRIBUTES),
        lambda: _from_attributes(details, _ATTRIBUTES),
        lambda: _from_events(events),
        lambda: _from_attributes(details, _OLDER_ATTRIBUTES),
        lambda: _from_indexed(attributes),
        lambda: _from_attributes([attributes], _OLDER_ATTRIBUTES),
        lambda: _from_tool(attributes),
        lambda: _from_attributes([attributes], _PLAIN_ATTRIBUTES),
    )
    found = _empty()
    for source in sources:
        for direction, side in source().items():
            if not found[direction].messages:
                found[direction] = side
        if all(side.messages for side in found.values()):
            break
    messages = [*found["input"].messages, *found["output"].messages]
    omitted = max(len(messages) - MAX_FIRST_MESSAGES - MAX_LAST_MESSAGES, 0)
    if omitted:
        messages = [*messages[:MAX_FIRST_MESSAGES], *messages[-MAX_LAST_MESSAGES:]]
    tools = _tool_names(attributes)
    messages = _limit_text(messages)
    used = {*found["input"].attributes, *found["output"].attributes, *([_TOOL_DEFINITIONS] if tools else [])}
    return Conversation(
        read_llm_call(attributes),
        messages,
        MAX_FIRST_MESSAGES if omitted else 0,
        omitted,
        tools,
        sorted(used & attributes.keys()),
        sorted(MESSAGE_EVENTS) if messages else (),
    )


def _limit_text(messages: Sequence[Message]) -> list[Message]:
    """Return messages with at most `MAX_TOTAL_TEXT` characters; the last messages are complete."""
    remaining = MAX_TOTAL_TEXT
    limited = []
    for message in reversed(messages):
        parts = []
        for part in reversed(message.parts):
            text = part.text[:remaining]
            remaining -= len(text)
            parts.append(replace(part, text=text, omitted=part.omitted + len(part.text) - len(text)))
        limited.append(replace(message, parts=parts[::-1]))
    return limited[::-1]


def _log_event(log: Record) -> _Event:
    """Return the name, the body and the attributes of a log record. Older SDKs send the name as an attribute."""
    attributes = log["attributes"]
    name = log["event_name"] or as_text(attributes.get("event.name"))
    return name, parse_json(log["body"]) if log["body_structured"] else log["body"], attributes


def _from_attributes(owners: Iterable[Mapping[str, Any]], names: Names) -> _Sides:
    """Return the messages of attributes, each of which has messages of one direction."""
    found = _empty()
    for attributes in owners:
        for name, direction, role in names:
            if messages := read_messages(attributes.get(name), role):
                found[direction].messages += messages
                found[direction].attributes.add(name)
    return found


def _from_events(events: Iterable[_Event]) -> _Sides:
    """Return the messages of events, each of which has one message: in the body, or in the attributes."""
    found = _empty()
    for name, body, attributes in events:
        if name not in _MESSAGE_ROLES and name != _CHOICE:
            continue
        own = {key: value for key, value in attributes.items() if not key.startswith(("gen_ai.", "event."))}
        value = body if body not in (None, "") else attributes.get("gen_ai.event.content", own or None)
        direction: Direction = "output" if name == _CHOICE else "input"
        found[direction].messages += read_messages(value, _MESSAGE_ROLES.get(name, "assistant"))
    return found


def _from_indexed(attributes: Record) -> _Sides:
    """Return the messages of attributes such as `gen_ai.prompt.0.content` or `llm.input_messages.0.message.content`."""
    found = _empty()
    trees: defaultdict[tuple[Direction, int], dict[str, Any]] = defaultdict(dict)
    for name, value in attributes.items():
        if match := _INDEXED.fullmatch(name):
            direction: Direction = "input" if match[1] in {"gen_ai.prompt", "llm.input_messages"} else "output"
            _insert(trees[direction, int(match[2])], match[3].split(".", _MAX_LEVELS), value)
            found[direction].attributes.add(name)
    for (direction, _), tree in sorted(trees.items(), key=lambda item: item[0]):
        found[direction].messages += read_messages(_to_lists(tree), "user" if direction == "input" else "assistant")
    return found


def _insert(tree: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Insert a value into nested objects. A value that is in the way of the path stays."""
    for key in path[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        tree = inner
    tree.setdefault(path[-1], value)


def _to_lists(value: object) -> object:
    """Convert the objects whose keys are all numbers to lists."""
    if not isinstance(value, dict):
        return value
    if value and all(key.isdecimal() and len(key) <= 6 for key in value):
        return [_to_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _to_lists(item) for key, item in value.items()}


def _from_tool(attributes: Record) -> _Sides:
    """Return the call and the result of a span that is the execution of a tool."""
    found = _empty()
    name = _first(attributes, _TOOL_NAMES)
    id_ = attributes.get("gen_ai.tool.call.id")
    if (arguments := _first(attributes, _TOOL_ARGUMENTS)) is not None:
        found["input"] = _Side(
            [Message("assistant", [tool_part("tool_call", arguments, name, id_)])], {*_TOOL_ARGUMENTS}
        )
    if (result := attributes.get(_TOOL_RESULT)) is not None:
        found["output"] = _Side([Message("tool", [tool_part("tool_result", result, name, id_)])], {_TOOL_RESULT})
    return found


def _first(attributes: Record, keys: Iterable[str]) -> object:
    return next((attributes[key] for key in keys if attributes.get(key) is not None), None)


def _tool_names(attributes: Record) -> list[str]:
    """Return the names of the tools that the model could call."""
    definitions = parse_json(attributes.get(_TOOL_DEFINITIONS))
    names = []
    for item in definitions[:MAX_TOOLS] if isinstance(definitions, list) else ():
        definition = parse_json(item)
        if isinstance(definition, Mapping):
            function = definition.get("function")
            definition = (function if isinstance(function, Mapping) else definition).get("name", definition)
        names.append(as_text(definition)[:MAX_NAME])
    return names
