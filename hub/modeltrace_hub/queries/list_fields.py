"""The fields of each list: traces, log records, predictions, labels, violations and metric points."""

from functools import partial
from typing import Final

from modeltrace_hub.queries.filter_fields import (
    CONDITION,
    FLAG_OPERATORS,
    NAME,
    ORDER_OPERATORS,
    AttributePrefix,
    FieldSet,
    FilterField,
    parse_flag,
    parse_number,
    parse_required_duration,
    parse_severity,
)

_SERVICE: Final = FilterField("`service.name` of the resource", "service_name", may_be_empty=True)
# NULL if neither number was sent.
_TOKENS: Final = "coalesce(input_tokens + output_tokens, input_tokens, output_tokens)"
# A single text is a list with one item.
_FINISH_REASONS: Final = (
    "(CASE WHEN json_type(finish_reasons) = 'ARRAY' THEN finish_reasons ->> '$[*]'"
    " WHEN json_type(finish_reasons) <> 'NULL' THEN [finish_reasons ->> '$'] END)"
)

TRACE_FIELDS: Final = FieldSet(
    {
        "service": _SERVICE,
        "name": FilterField("name of a span", "name"),
        "kind": FilterField("SERVER, CLIENT, INTERNAL, PRODUCER or CONSUMER", "kind", str.upper),
        "duration": FilterField(
            "from the first start to the last end of the trace, such as 300ms",
            "duration_ns",
            parse_required_duration,
            ORDER_OPERATORS,
            of_trace=True,
        ),
        "error": FilterField("a span with an error", "(error_count > 0)", parse_flag, FLAG_OPERATORS, of_trace=True),
        "status": FilterField(
            "HTTP status of the root span", "status_code", parse_number, ORDER_OPERATORS, of_trace=True
        ),
        "spans": FilterField("number of spans", "span_count", parse_number, ORDER_OPERATORS, of_trace=True),
        "output": FilterField("predicted label or value", "output", of_trace=True),
        "confidence": FilterField("of the prediction", "confidence", parse_number, ORDER_OPERATORS, of_trace=True),
        "llm_calls": FilterField("number of LLM calls", "llm_call_count", parse_number, ORDER_OPERATORS, of_trace=True),
        "tokens": FilterField(
            "input and output tokens of the LLM calls", _TOKENS, parse_number, ORDER_OPERATORS, of_trace=True
        ),
    },
    {},
)

# The columns are those of hub/modeltrace_hub/sql/queries/list_llm_calls.sql.
LLM_FIELDS: Final = FieldSet(
    {
        "service": _SERVICE,
        "name": FilterField("name of the span", "name"),
        "model": FilterField("requested model", "model"),
        "operation": FilterField("such as chat, embeddings, text_completion", "operation"),
        "provider": FilterField("such as openai", "provider"),
        "tokens": FilterField("input and output tokens", _TOKENS, parse_number, ORDER_OPERATORS),
        "input_tokens": FilterField("tokens of the input", "input_tokens", parse_number, ORDER_OPERATORS),
        "output_tokens": FilterField("tokens of the output", "output_tokens", parse_number, ORDER_OPERATORS),
        "duration": FilterField("such as 300ms", "duration_ns", parse_required_duration, ORDER_OPERATORS),
        "error": FilterField("the call failed", "(status_code = 'ERROR')", parse_flag, FLAG_OPERATORS),
        "finish_reason": FilterField("one of the finish reasons, such as length", _FINISH_REASONS, is_list=True),
        "trace_id": FilterField("32 hex digits", "trace_id", str.lower),
    },
    {},
)

LOG_FIELDS: Final = FieldSet(
    {
        "service": _SERVICE,
        "severity": FilterField(
            "TRACE, DEBUG, INFO, WARN, ERROR or FATAL",
            "CASE WHEN severity_number > 0 THEN (severity_number + 3) // 4 END",
            parse_severity,
            ORDER_OPERATORS,
        ),
        "severity_number": FilterField("1 to 24", "severity_number", parse_number, ORDER_OPERATORS),
        "text": FilterField("the body", "body"),
        "event": FilterField("event name", "event_name", may_be_empty=True),
        "scope": FilterField(
            "name of the logger",
            "scope_name",
            may_be_empty=True,
            within=f"scope_id IN (SELECT scope_id FROM scopes WHERE {CONDITION})",  # noqa: S608  fixed texts
        ),
        "trace_id": FilterField("32 hex digits", "trace_id", str.lower),
        "span_id": FilterField("16 hex digits", "span_id", str.lower),
    },
    {},
)

METRIC_FIELDS: Final = FieldSet(
    {
        "service": _SERVICE,
        "name": FilterField("name of the metric", "name"),
    },
    {},
)

_MODEL: Final = FilterField("name of the model", "attributes ->> '/ml.model.name'")
_VERSION: Final = FilterField("version of the model", "attributes ->> '/ml.model.version'")
_LABEL: Final = FilterField("predicted label", "attributes ->> '/ml.prediction.label'")
_CONFIDENCE: Final = "TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE)"
_PREDICTION_ID: Final = "attributes ->> '/ml.prediction.id'"
# A label refers to its prediction by the prediction ID. Only the prediction log record has external ID, tags, inputs.
_OF_PREDICTION: Final = (
    f"{_PREDICTION_ID} IN (SELECT {_PREDICTION_ID} FROM logs WHERE event_name = 'ml.prediction' AND {CONDITION})"  # noqa: S608  fixed texts
)


# The label of a prediction is in a label record. A challenger's prediction has the label of the one that it shadows.
_WITH_LABEL: Final = (
    "EXISTS (SELECT 1 FROM (SELECT attributes AS label_attributes FROM logs WHERE event_name = 'ml.feedback')"  # noqa: S608  fixed texts
    " WHERE label_attributes ->> '/ml.prediction.id'"
    f" = coalesce(attributes ->> '/ml.prediction.shadow_of', {_PREDICTION_ID}) AND {CONDITION})"
)


def _prediction_fields(within: str, within_label: str, label_column: str) -> FieldSet:
    """Return the fields of predictions and of labels.

    Args:
        within: contains the conditions that only the prediction log record can meet.
        within_label: contains the conditions that only a label record can meet.
        label_column: the attributes of the label record in `within_label`.
    """
    label, number = (f"{label_column} ->> '/ml.feedback.{name}'" for name in ("label", "value"))
    of_label = partial(FilterField, within=within_label, of_label=within_label != CONDITION)
    value, true_value = "TRY_CAST(attributes ->> '/ml.prediction.value' AS DOUBLE)", f"TRY_CAST({number} AS DOUBLE)"
    return FieldSet(
        {
            "service": _SERVICE,
            "model": _MODEL,
            "version": _VERSION,
            "label": _LABEL,
            "id": FilterField("external ID", "attributes ->> '/ml.prediction.external_id'", within=within),
            "confidence": FilterField(
                "probability of the predicted label",
                _CONFIDENCE,
                parse_number,
                ORDER_OPERATORS,
                within=within,
            ),
            "value": FilterField("predicted number", value, parse_number, ORDER_OPERATORS),
            "true_label": of_label("true label", f"coalesce({label}, {number})"),
            "true_value": of_label("true number", true_value, parse_number, ORDER_OPERATORS),
            "error": of_label(
                "predicted minus true number", f"({value} - {true_value})", parse_number, ORDER_OPERATORS
            ),
            "correct": of_label(
                "whether the predicted label is the true label",
                f"(attributes ->> '/ml.prediction.label' = {label})",
                parse_flag,
                FLAG_OPERATORS,
            ),
            "synthetic": FilterField(
                "whether the prediction is of generated traffic",
                "(coalesce(attributes ->> '/modeltrace.synthetic', '') = 'true')",
                parse_flag,
                FLAG_OPERATORS,
                within=within,
            ),
        },
        {
            "input.": AttributePrefix("value of a feature", "ml.prediction.inputs", nested=True, within=within),
            "tag.": AttributePrefix("tag of the request", "ml.tag.", within=within),
        },
        {
            "probability.": FilterField(
                "probability of a class, of a model with two classes",
                f"CASE WHEN {_LABEL.sql} = {NAME} THEN {_CONFIDENCE} ELSE 1 - {_CONFIDENCE} END",
                parse_number,
                ORDER_OPERATORS,
                within=within,
            ),
        },
    )


PREDICTION_FIELDS: Final = _prediction_fields(CONDITION, _WITH_LABEL, "label_attributes")
LABEL_FIELDS: Final = _prediction_fields(_OF_PREDICTION, CONDITION, "attributes")
VIOLATION_FIELDS: Final = FieldSet(
    {
        "service": _SERVICE,
        "model": _MODEL,
        "version": _VERSION,
        "feature": FilterField("name of the feature", "attributes ->> '/ml.feature.name'"),
        "reason": FilterField("reason of the violation", "attributes ->> '/ml.data.violation.reason'"),
    },
    {},
)
