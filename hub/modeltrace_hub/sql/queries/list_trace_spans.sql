-- The spans of a trace by start. A sender that gets no response sends again; copies of a span are removed.
WITH span AS (
    SELECT * REPLACE ({span_duration} AS duration_ns)
    FROM spans
    WHERE trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
)
SELECT * EXCLUDE (resource_id, scope_id)
FROM span {resource_and_scope}
ORDER BY start_ns, (parent_span_id IS NOT NULL), end_ns DESC, span_id, name, kind
LIMIT $limit
