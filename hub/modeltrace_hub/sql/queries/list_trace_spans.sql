-- The spans of a trace by start. A sender that gets no response sends again; copies of a span are removed.
SELECT * REPLACE ({span_duration} AS duration_ns)
FROM spans
WHERE trace_id = $trace_id
QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
ORDER BY start_ns, (parent_span_id IS NOT NULL), end_ns DESC, span_id, name, kind
LIMIT $limit
