"""Read the attributes of a call of a large language model (LLM) from a span.

The names are those of OpenTelemetry's semantic conventions for generative AI (`gen_ai.*`, with the older names) and of
OpenInference (`llm.*`). sql/fragments/llm_call_columns.sql reads the same from the table of spans.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.attribute_values import to_text

# The JSON of the attributes of a span that may belong to an LLM application contains one of these texts.
LLM_MARKS: Final = ('"gen_ai.', '"openinference.')
# The operations of agents, tools and workflows. The calls inside them have spans of their own, with the same tokens.
OTHER_OPERATIONS: Final = frozenset(
    (
        *("create_agent", "invoke_agent", "invoke_workflow", "plan", "execute_tool", "retrieval"),
        *("AGENT", "CHAIN", "TOOL", "RETRIEVER", "RERANKER", "GUARDRAIL", "EVALUATOR", "PROMPT", "DECISION", "UNKNOWN"),
    )
)

_OPERATION: Final = ("gen_ai.operation.name", "openinference.span.kind")
_PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
_MODEL: Final = ("gen_ai.request.model", "llm.model_name", "embedding.model_name", "gen_ai.response.model")
_INPUT_TOKENS: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT_TOKENS: Final = (
    *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
)
_FINISH_REASONS: Final = ("gen_ai.response.finish_reasons", "llm.finish_reason")
# The limit of digits keeps sums in the range of 64-bit integers.
_TOKENS: Final = re.compile("[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class LlmCall:
    """The attributes of a call. `model` is the requested model. A value that was not sent is None."""

    operation: str | None
    provider: str | None
    model: str | None
    response_model: str | None
    input_tokens: int | None
    output_tokens: int | None
    finish_reasons: list[str]


def read_llm_call(attributes: Mapping[str, Any]) -> LlmCall | None:
    """Return the LLM call of a span; None for any other span, such as one of an agent, a tool or a workflow."""
    operation, model = _first_text(attributes, _OPERATION), _first_text(attributes, _MODEL)
    if (operation is None and model is None) or operation in OTHER_OPERATIONS:
        return None
    return LlmCall(
        operation,
        _first_text(attributes, _PROVIDER),
        model,
        to_text(attributes.get("gen_ai.response.model")),
        _tokens(attributes, _INPUT_TOKENS),
        _tokens(attributes, _OUTPUT_TOKENS),
        text_list(next((attributes[key] for key in _FINISH_REASONS if attributes.get(key) is not None), None)),
    )


def text_list(value: object) -> list[str]:
    """Return the items of a list as texts, and anything else but null as a list with one text."""
    items = value if isinstance(value, list) else [value]
    return [text for item in items if (text := to_text(item)) is not None]


def _first_text(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """Return the first of some attributes that was sent."""
    return next((text for key in keys if (text := to_text(attributes.get(key))) is not None), None)


def _tokens(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """Return a number of tokens; None if it is not a whole number of at most 12 digits."""
    text = _first_text(attributes, keys)
    return int(text) if text is not None and _TOKENS.fullmatch(text) else None
