-- The spans of LLM applications in a trace, by start. Copies of a span are removed.
SELECT
    span_id, name, service_name, start_ns, {span_duration} AS duration_ns, status_code, attributes, events
FROM spans
WHERE
    trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    AND (contains(attributes::VARCHAR, '"gen_ai.') OR contains(attributes::VARCHAR, '"openinference.'))
QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
ORDER BY start_ns, (parent_span_id IS NOT NULL), end_ns DESC, span_id, name, kind
LIMIT $limit
