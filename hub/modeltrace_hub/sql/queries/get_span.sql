-- All columns of the spans with an ID. There is one such span, unless a sender uses an ID twice.
WITH span AS (
    SELECT * REPLACE ({span_duration} AS duration_ns)
    FROM spans
    WHERE trace_id = $trace_id AND span_id = $span_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
)
SELECT * EXCLUDE (resource_id, scope_id)
FROM span {resource_and_scope}
ORDER BY start_ns, name, kind
LIMIT $limit
