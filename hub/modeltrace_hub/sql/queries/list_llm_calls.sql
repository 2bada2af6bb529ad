-- LLM calls, newest first. Only traces that have some are read: all their records arrived from `$first_received_ns` to
-- `$last_received_ns`. `effective_ns` is the start, or the arrival of a span without a plausible start.
WITH span AS NOT MATERIALIZED (
    SELECT
        *, CASE WHEN start_ns BETWEEN 1 AND received_ns + {max_clock_skew_ns} THEN start_ns ELSE received_ns END AS effective_ns
    FROM spans
    WHERE
        received_ns BETWEEN $first_received_ns AND $last_received_ns
        AND received_ns >= $since_ns - {max_clock_skew_ns}
        AND (contains(attributes::VARCHAR, '"gen_ai.') OR contains(attributes::VARCHAR, '"openinference.'))
        AND trace_id IN (SELECT trace_id FROM traces WHERE llm_call_count > 0)
),
call AS (
    SELECT * REPLACE ({span_duration} AS duration_ns), {llm_call_columns}
    FROM span
    WHERE effective_ns > $since_ns AND effective_ns <= $until_ns
    QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
)
SELECT
    trace_id, span_id, name, service_name, effective_ns, received_ns, duration_ns, operation, provider, model,
    response_model, input_tokens, output_tokens, finish_reasons, status_code, attributes ->> '/error.type' AS error_type
FROM call
WHERE coalesce(operation, model) IS NOT NULL AND NOT list_contains($other_operations, coalesce(operation, '')){conditions}
ORDER BY effective_ns DESC, received_ns DESC, hash(trace_id, span_id, attributes)
LIMIT $limit
