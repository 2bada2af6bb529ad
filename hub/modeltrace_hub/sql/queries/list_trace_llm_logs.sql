-- The log records with messages of LLM calls: of a trace, or of one of its spans.
SELECT span_id, time_ns, event_name, body, body_structured, attributes
FROM logs
WHERE
    trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    AND ($span_id IS NULL OR span_id = $span_id)
    AND (starts_with(event_name, 'gen_ai.') OR contains(attributes::VARCHAR, '"gen_ai.'))
ORDER BY time_ns, received_ns
LIMIT $limit
