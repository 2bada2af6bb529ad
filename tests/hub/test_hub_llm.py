"""LLM calls: their messages in all shapes of the conventions, the list, the sums of tokens, and hostile content."""

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from modeltrace_hub.queries import llm_conversation
from modeltrace_hub.queries.llm_messages import MAX_TEXT
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import log_request, span, trace_request
from tests.helpers.otlp_values import MS, any_value, key_values

TRACE = bytes(range(16))
SPAN = b"\1" * 8
CHAT: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
TEXTS = [("user", "How are you?"), ("assistant", "Well.")]


@pytest.fixture(scope="module")
def pages() -> Iterator[HubPages]:
    """Yield the pages of one hub; each test starts with an empty store."""
    with hub_pages() as pages:
        yield pages


def llm_span(attributes: Mapping[str, Any], **fields: Any) -> Span:
    """Return a span of one second that ended now."""
    now = time.time_ns()
    return span(
        trace_id=TRACE,
        attributes=key_values(attributes),
        **{"span_id": SPAN, "start_time_unix_nano": now - 1000 * MS, "end_time_unix_nano": now, **fields},
    )


def event(name: str, body: Any, **attributes: Any) -> LogRecord:
    """Return a log record of the span."""
    value = any_value(body) if body is not None else AnyValue()
    return LogRecord(event_name=name, trace_id=TRACE, span_id=SPAN, body=value, attributes=key_values(attributes))


def span_event(name: str, attributes: Mapping[str, Any]) -> Span.Event:
    """Return an event of a span."""
    return Span.Event(name=name, attributes=key_values(attributes))


def store(pages: HubPages, *spans: Span, logs: Sequence[LogRecord] = ()) -> None:
    """Store spans and log records in an empty hub."""
    pages.clear()
    pages.add(trace_request(*spans), *([log_request(*logs)] if logs else []))


def conversations(pages: HubPages) -> list[dict[str, Any]]:
    """Return the conversations of the trace, and check that its page has no error."""
    assert pages.client.get(f"/t/{TRACE.hex()}").status_code == 200
    content = pages.client.get(f"/api/traces/{TRACE.hex()}/llm-calls")
    assert content.status_code == 200
    return [item["conversation"] for item in content.json()["spans"]]


def texts(conversation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the role and the text of each message."""
    return [
        (message["role"], "".join(part["text"] for part in message["parts"])) for message in conversation["messages"]
    ]


def parts(role: str, text: str) -> dict[str, Any]:
    """Return a message as the conventions define it."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


INPUT, OUTPUT = [parts(*TEXTS[0])], [{**parts(*TEXTS[1]), "finish_reason": "stop"}]
OLD_INPUT, OLD_OUTPUT = [{"role": "user", "content": "How are you?"}], [{"role": "assistant", "content": "Well."}]
# How instrumentations send the same two messages: attributes of the span, events of the span, log records.
SHAPES: dict[str, tuple[dict[str, Any], list[Span.Event], list[LogRecord]]] = {
    "attributes as JSON": (
        {"gen_ai.input.messages": json.dumps(INPUT), "gen_ai.output.messages": json.dumps(OUTPUT)},
        [],
        [],
    ),
    "structured attributes": ({"gen_ai.input.messages": INPUT, "gen_ai.output.messages": OUTPUT}, [], []),
    "details event": (
        {},
        [],
        [
            event(
                "gen_ai.client.inference.operation.details",
                None,
                **{"gen_ai.input.messages": INPUT, "gen_ai.output.messages": OUTPUT},
            )
        ],
    ),
    "message events": (
        {},
        [],
        [
            event("gen_ai.user.message", {"content": "How are you?"}),
            event("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": OLD_OUTPUT[0]}),
        ],
    ),
    "message events with the name in an attribute": (
        {},
        [],
        [
            event("", {"content": "How are you?"}, **{"event.name": "gen_ai.user.message"}),
            event("", {"message": {"content": "Well."}}, **{"event.name": "gen_ai.choice"}),
        ],
    ),
    "message events of the span": (
        {},
        [
            span_event("gen_ai.user.message", {"gen_ai.event.content": json.dumps(OLD_INPUT[0])}),
            span_event("gen_ai.choice", {"content": "Well.", "gen_ai.system": "openai"}),
        ],
        [],
    ),
    "content events": (
        {},
        [
            span_event("gen_ai.content.prompt", {"gen_ai.prompt": json.dumps(OLD_INPUT)}),
            span_event("gen_ai.content.completion", {"gen_ai.completion": "Well."}),
        ],
        [],
    ),
    "indexed attributes": (
        {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "How are you?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Well.",
        },
        [],
        [],
    ),
    "OpenInference": (
        {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.contents.0.message_content.type": "text",
            "llm.input_messages.0.message.contents.0.message_content.text": "How are you?",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": "Well.",
        },
        [],
        [],
    ),
    "values of OpenInference": (
        {"openinference.span.kind": "LLM", "input.value": "How are you?", "output.value": "Well."},
        [],
        [],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_messages_of_every_convention_are_the_same(pages: HubPages, shape: str) -> None:
    """The page and the API show the question and the answer, and not the attributes that have them again."""
    attributes, events, logs = SHAPES[shape]
    store(pages, llm_span({**CHAT, **attributes}, events=events), logs=logs)

    (conversation,) = conversations(pages)
    assert texts(conversation) == TEXTS
    page = pages.client.get(f"/t/{TRACE.hex()}", params={"part": "span", "span": SPAN.hex()}).text
    assert page.count("How are you?") == 1
    assert conversation["attributes"] == sorted(attributes.keys() - {"openinference.span.kind"})


def test_tools_are_shown_with_arguments_and_results(pages: HubPages) -> None:
    """A tool is called by the model, executed in a span of its own, and its result is sent to the model."""
    call = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}
    result = {"type": "tool_call_response", "id": "c1", "response": "rain"}
    old_call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    inference = llm_span(
        {
            **CHAT,
            "gen_ai.tool.definitions": json.dumps(
                [{"type": "function", "name": "weather"}, {"function": {"name": "time"}}]
            ),
            "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
            "gen_ai.input.messages": [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [result]}],
            "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": None, "tool_calls": [old_call]}]),
        }
    )
    execution = llm_span(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.call.arguments": '{"city": "Paris"}',
            "gen_ai.tool.call.result": "rain",
        },
        span_id=b"\2" * 8,
    )
    store(pages, inference, execution)

    first, second = conversations(pages)
    assert first["tools"] == ["weather", "time"]
    found = [(m["role"], p["kind"], p["name"], p["id"]) for m in first["messages"] for p in m["parts"]]
    assert found == [
        ("system", "text", None, None),
        ("assistant", "tool_call", "weather", "c1"),
        ("tool", "tool_result", None, "c1"),
        ("assistant", "tool_call", "weather", "c1"),
    ]
    assert second["call"] is None
    assert [(m["role"], p["kind"], p["name"]) for m in second["messages"] for p in m["parts"]] == [
        ("assistant", "tool_call", "weather"),
        ("tool", "tool_result", "weather"),
    ]


def test_content_that_was_not_sent_is_said_so(pages: HubPages) -> None:
    """Without content, the page says how to send it; a choice still has its finish reason."""
    store(pages, llm_span(CHAT))
    assert conversations(pages)[0]["messages"] == []
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" in pages.client.get(f"/t/{TRACE.hex()}").text
    logs = [
        event("gen_ai.user.message", None, **{"gen_ai.system": "openai"}),
        event("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}),
    ]
    store(pages, llm_span(CHAT), logs=logs)
    (message,) = conversations(pages)[0]["messages"]
    assert (message["role"], message["parts"], message["finish_reason"]) == ("assistant", [], "stop")


def test_other_spans_have_no_conversation(pages: HubPages) -> None:
    """The words of LLM applications are shown only where there is one."""
    store(pages, llm_span({"input.value": "x", "http.route": "/"}))
    assert conversations(pages) == []
    for path in (f"/t/{TRACE.hex()}", "/traces"):
        html = pages.client.get(path).text
        assert "LLM" not in html
        assert "token" not in html.replace('class="token"', "")


def test_tokens_are_summed_without_agents(pages: HubPages) -> None:
    """The head of the trace, the list of traces and the API have the same sums; an agent repeats those of its calls."""
    usage = {"gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 34}
    older = {"gen_ai.system": "x", "gen_ai.request.model": "b", "gen_ai.usage.prompt_tokens": 5}
    inference = {"openinference.span.kind": "LLM", "llm.model_name": "c", "llm.token_count.completion": 7}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-4o", **usage}
    all_attributes = (agent, {**CHAT, **usage}, older, inference, {"openinference.span.kind": "CHAIN", **usage})
    spans = [llm_span(item, span_id=bytes([n + 1]) * 8) for n, item in enumerate(all_attributes)]
    store(pages, *spans, spans[1])  # one span is sent twice

    (trace,) = pages.client.get("/api/traces").json()["traces"]
    sums = {"llm_call_count": 3, "input_tokens": 1205, "output_tokens": 41}
    assert trace["llm_models"] == ["b", "c", "gpt-4o"]
    for content in (trace, *(pages.client.get(f"/api/traces/{TRACE.hex()}{end}").json() for end in ("", "/llm-calls"))):
        assert {name: content[name] for name in sums} == sums
    assert "1,205 → 41 tokens" in pages.client.get(f"/t/{TRACE.hex()}").text
    assert "1,205 → 41" in pages.client.get("/traces").text
    assert len(pages.client.get("/api/llm-calls").json()["llm_calls"]) == 3
    for line, count in (("tokens > 1245", 1), ("tokens > 1246", 0), ("llm_calls = 3", 1), ("llm_calls = 2", 0)):
        assert len(pages.client.get("/api/traces", params={"filter": line}).json()["traces"]) == count, line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("model = gpt-4o", [0, 1]),
        ("operation = embeddings", [2]),
        ("provider = openai", [0]),
        ("tokens >= 100", [0]),
        ("output_tokens exists", [0]),
        ("error = true", [1]),
        ("duration > 1500ms", [2]),
        ("finish_reason ~ STO", [0]),
        ("finish_reason = stop", [0]),
        ("finish_reason = length", [0, 2]),
        ("finish_reason = sto", []),
        ("finish_reason != stop", [2]),
        ("finish_reason exists", [0, 2]),
        ("service = svc gen_ai.request.temperature > 0.5", [1]),
        ("service = other", []),
        (f"trace_id = {TRACE.hex()}", [0, 1, 2]),
    ],
)
def test_the_list_is_filtered(pages: HubPages, line: str, expected: list[int]) -> None:
    """Each field of the filter line selects its calls, on the page and in the API."""
    items: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (
            {
                **CHAT,
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.input_tokens": 60,
                "gen_ai.usage.output_tokens": 40,
                "gen_ai.response.finish_reasons": ["stop", "length"],
            },
            {},
        ),
        ({**CHAT, "gen_ai.request.temperature": 0.75, "error.type": "Late"}, {"status": Status(code=2)}),
        (
            {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e", "llm.finish_reason": "length"},
            {"start_time_unix_nano": time.time_ns() - 2000 * MS},
        ),
    ]
    store(pages, *(llm_span(item, span_id=bytes([n + 1]) * 8, **fields) for n, (item, fields) in enumerate(items)))

    found = pages.client.get("/api/llm-calls", params={"filter": line}).json()["llm_calls"]
    assert sorted(bytes.fromhex(call["span_id"])[0] - 1 for call in found) == expected
    page = pages.client.get("/llm-calls", params={"filter": line})
    assert (page.status_code, page.text.count("<tr data-key=")) == (200, len(expected))


def test_long_texts_of_the_list_are_cut(pages: HubPages) -> None:
    """Neither the API nor the page has a model name of any length, or thousands of finish reasons."""
    reasons = [f"reason-{n}" for n in range(5000)]
    call = {**CHAT, "gen_ai.request.model": "m" * 20_000, "gen_ai.response.finish_reasons": reasons}
    store(pages, llm_span(call))

    (listed,) = pages.client.get("/api/llm-calls").json()["llm_calls"]
    assert listed["model"] == "m" * 499 + "…"
    assert listed["finish_reasons"] == reasons[:20]
    assert "m" * 100 not in pages.client.get("/llm-calls").text
    values = pages.client.get("/api/completions?list=llm_calls&name=finish_reason").json()["values"]
    assert values
    assert all(value.startswith("reason-") for value in values)


def test_an_invalid_filter_is_named(pages: HubPages) -> None:
    """The API answers 422, and the page says where the error is and shows the list."""
    store(pages, llm_span(CHAT))
    assert pages.client.get("/api/llm-calls?filter=tokens+~+5").status_code == 422
    assert pages.client.get("/api/llm-calls?modle=x").status_code == 422
    page = pages.client.get("/llm-calls?filter=tokens+~+5")
    assert page.status_code == 422
    assert "Filter: character 1: tokens has the operators" in page.text
    assert page.text.count("<tr data-key=") == 1


def test_pages_of_the_list_have_all_calls_once(pages: HubPages) -> None:
    """Calls at the same time are on one page or the next, and none is repeated or left out."""
    start = time.time_ns() - 10_000 * MS
    spans = [
        llm_span(CHAT, span_id=n.to_bytes(8, "big"), start_time_unix_nano=start + n // 7 * MS) for n in range(1, 40)
    ]
    store(pages, *spans)
    seen: list[str] = []
    cursor = None
    while True:
        answer = pages.client.get(
            "/api/llm-calls", params={"limit": "5", **({"cursor": cursor} if cursor else {})}
        ).json()
        seen += [call["span_id"] for call in answer["llm_calls"]]
        cursor = answer["next"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(item.span_id.hex() for item in spans)


def test_long_content_is_bounded_and_escaped(pages: HubPages) -> None:
    """A long text is folded and cut, many messages are left out in the middle, and no markup of a text is effective."""
    hostile = "<script>alert('x')</script>\u202e"
    messages = [parts("user", f"{number} {hostile}") for number in range(150)] + [parts("<b>", hostile + "y" * 10**6)]
    store(pages, llm_span({**CHAT, "gen_ai.request.model": hostile, "gen_ai.input.messages": json.dumps(messages)}))

    (conversation,) = conversations(pages)
    assert (len(conversation["messages"]), conversation["omitted"]) == (100, 51)
    assert len(conversation["messages"][-1]["parts"][0]["text"]) == MAX_TEXT
    for path in (f"/t/{TRACE.hex()}", "/llm-calls", "/traces"):
        html = pages.client.get(path).text
        assert "<script>alert" not in html
        assert "<b>" not in html
        assert len(html) < 400_000
    html = pages.client.get(f"/t/{TRACE.hex()}").text
    assert "51\u202fmessages not shown" in html
    assert "1,000,028 characters" in html


def test_the_whole_text_of_a_conversation_is_bounded(pages: HubPages) -> None:
    """Of many long messages, the last ones are complete."""
    messages = [parts("user", f"{number} " + "z" * 15_000) for number in range(60)]
    store(pages, llm_span({**CHAT, "gen_ai.input.messages": json.dumps(messages)}))
    found = texts(conversations(pages)[0])
    assert sum(len(text) for _, text in found) == llm_conversation.MAX_TOTAL_TEXT
    assert len(found[-1][1]) > 15_000
    assert found[0] == ("user", "")


def test_deep_content_is_bounded(pages: HubPages) -> None:
    """Nested lists, objects, choices and names of attributes do not exhaust the stack."""
    deep = {
        "gen_ai.input.messages": '{"message":' * 900 + "1" + "}" * 900,
        "gen_ai.output.messages": '[{"role":"user","parts":' + "[" * 900 + "]" * 900 + "}]",
        f"llm.input_messages.0.{'a.' * 5000}b": "x",
        "gen_ai.tool.definitions": "[" * 100_000,
    }
    for name, value in deep.items():
        store(pages, llm_span({**CHAT, name: value}))
        assert len(conversations(pages)) == 1, name


NAMES = [
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.prompt.0.role",
    "gen_ai.prompt",
    "gen_ai.prompt.0.content",
    "gen_ai.prompt.0.tool_calls.0.name",
    "gen_ai.completion.1",
    "gen_ai.completion.1.content",
    "llm.input_messages.0.message.role",
    "llm.input_messages.0.message",
    "llm.output_messages.0.message.tool_calls.0",
    "gen_ai.tool.definitions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.tool.name",
    "llm.model_name",
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.provider.name",
    "llm.finish_reason",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "gen_ai.response.finish_reasons",
    "openinference.span.kind",
    "input.value",
    "output.value",
]
KEYS = [
    "role",
    "parts",
    "content",
    "contents",
    "tool_calls",
    "function",
    "function_call",
    "name",
    "arguments",
    "id",
    "type",
    "message",
    "messages",
    "message_content",
    "tool_call",
    "finish_reason",
    "text",
    "index",
    "response",
    "0",
    "x",
]
SCALARS: tuple[Any, ...] = (
    *(None, True, 0, -1, 5, 2**53, 2**63 - 1, 1.5, 1e300, "", "user", "tool", "text", "tool_call", "chat", "AGENT"),
    *("[", "{}", "[]", "null", '{"role": 5}', "12", "1234567890123", "\0", "é" * 700, "<b>", "LLM", "invoke_agent"),
)


def random_value(rng: random.Random, depth: int = 0) -> Any:
    """Return any JSON, mostly with the keys of messages."""
    kind = rng.randrange(3) if depth < 4 else 0
    if kind == 1:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 2:
        return {rng.choice(KEYS): random_value(rng, depth + 1) for _ in range(rng.randrange(5))}
    return rng.choice(SCALARS)


@pytest.mark.parametrize("seed", range(3))
def test_messages_of_any_shape_are_shown(pages: HubPages, seed: int) -> None:
    """No value of any attribute, event or log record fails, and the list has the calls that the sums count."""
    rng = random.Random(seed)  # noqa: S311  the same telemetry for a seed
    spans, logs = [], []
    for number in range(1, 20):
        values = {rng.choice(NAMES): random_value(rng) for _ in range(rng.randrange(1, 9))}
        as_text = rng.random() < 0.3
        attributes = {key: json.dumps(value) if as_text else value for key, value in values.items()}
        names = sorted(llm_conversation.MESSAGE_EVENTS)
        own = {rng.choice(NAMES): random_value(rng), "gen_ai.event.content": random_value(rng)}
        events = [Span.Event(name=rng.choice(names), attributes=key_values(own))] if rng.random() < 0.3 else []
        spans.append(llm_span(attributes, span_id=number.to_bytes(8, "big"), events=events))
        log = event(rng.choice([*names, ""]), random_value(rng), **{rng.choice(NAMES): random_value(rng)})
        log.span_id = number.to_bytes(8, "big")
        logs.append(log)
    store(pages, *spans, logs=logs)

    conversations(pages)
    for item in spans:
        part = pages.client.get(f"/t/{TRACE.hex()}", params={"part": "span", "span": item.span_id.hex()})
        assert part.status_code == 200
    for path in ("/llm-calls", "/traces", "/api/completions?list=llm_calls&name=model"):
        assert pages.client.get(path).status_code == 200
    calls = pages.client.get("/api/llm-calls").json()["llm_calls"]
    (trace,) = pages.client.get("/api/traces").json()["traces"]
    assert trace["llm_call_count"] == len(calls) > 0
    for name in ("input_tokens", "output_tokens"):
        known = [call[name] for call in calls if call[name] is not None]
        assert trace[name] == (sum(known) if known else None)
    # A model name that is no text is shown as JSON, in which 1e300 can also be 1e+300. The list cuts it.
    models = {call["model"].replace("e+300", "e300")[:400] for call in calls if call["model"] is not None}
    assert {model.replace("e+300", "e300")[:400] for model in trace["llm_models"]} == models
