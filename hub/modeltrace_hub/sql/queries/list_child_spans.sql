-- The times of a span, and of the spans that name its ID as their parent.
SELECT span_id, parent_span_id, service_name, start_ns, end_ns, {span_duration} AS duration_ns
FROM spans
WHERE
    trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    AND (span_id = $span_id OR parent_span_id = $span_id)
QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
ORDER BY start_ns
LIMIT $limit
