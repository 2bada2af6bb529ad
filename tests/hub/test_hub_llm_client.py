"""The instrumentation of OpenAI's client sends LLM calls to the hub, with each version of the conventions."""

import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.helpers.in_process_hubs import in_process_hub

pytestmark = [pytest.mark.slow, pytest.mark.extended]

VERSIONS = {
    "log records": {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"},
    "attributes": {
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    },
    "event": {
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY",
    },
}


@pytest.mark.parametrize("version", VERSIONS)
def test_calls_of_a_real_client_are_shown(version: str) -> None:
    """Messages, the call of a tool and its result, tokens, the failure and the histograms arrive."""
    with in_process_hub() as hub:
        run(f"http://127.0.0.1:{hub.settings.http_port}", VERSIONS[version])
        calls = get(hub.page_url, "/api/llm-calls")["llm_calls"]
        trace_id = calls[0]["trace_id"]
        content = get(hub.page_url, f"/api/traces/{trace_id}/llm-calls")
        page = httpx.get(f"{hub.page_url}/t/{trace_id}", params={"span": calls[1]["span_id"]}).raise_for_status().text
        metrics = {
            name: httpx.get(f"{hub.page_url}/metrics", params={"name": name}).raise_for_status().text
            for name in ("gen_ai.client.token.usage", "gen_ai.client.operation.duration")
        }

    assert [(call["model"], call["operation"], call["input_tokens"], call["output_tokens"]) for call in calls] == [
        ("unknown", "chat", None, None),
        ("gpt-test", "chat", 20, 5),
        ("gpt-test", "chat", 20, 5),
    ]
    assert calls[0]["status_code"] == "ERROR"
    assert [call["finish_reasons"] for call in calls[1:]] == [["stop"], ["tool_calls"]]
    assert (content["llm_call_count"], content["input_tokens"], content["output_tokens"]) == (3, 40, 10)
    messages = content["spans"][1]["conversation"]["messages"]
    assert [(message["role"], *summary(message)) for message in messages] == [
        ("system", ("text", "Be brief.", None)),
        ("user", ("text", "How is the weather in <b>Paris</b>?", None)),
        ("assistant", ("tool_call", "Paris", "get_weather")),
        ("tool", ("tool_result", "14 degrees, rain", None)),
        ("assistant", ("text", "It rains.", None)),
    ]
    assert messages[-1]["finish_reason"] == "stop"
    assert "&lt;b&gt;Paris&lt;/b&gt;" in page
    assert "<b>Paris" not in page
    assert all("Measurements by time and bucket" in html for html in metrics.values())


def summary(message: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return kind, text and tool of the parts; of arguments, the city."""
    return [
        (
            part["kind"],
            "Paris" if part["kind"] == "tool_call" and "Paris" in part["text"] else part["text"],
            part["name"],
        )
        for part in message["parts"]
    ]


def run(otlp_url: str, environment: dict[str, str]) -> None:
    """Run the program that calls the chat API."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | environment
    command = [sys.executable, "-m", "tests.helpers.openai_program", otlp_url]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


def get(url: str, path: str) -> Any:
    """Return the answer of a call of the API."""
    return httpx.get(f"{url}{path}").raise_for_status().json()
