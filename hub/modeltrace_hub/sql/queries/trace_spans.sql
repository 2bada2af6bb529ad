-- The spans of one trace by start. A sender that got no answer sends again, so the same span may be there twice.
SELECT * REPLACE ({span_duration} AS duration_ns)
FROM spans
WHERE trace_id = $trace_id
QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
ORDER BY start_ns, (parent_span_id IS NOT NULL), end_ns DESC, span_id, name, kind
LIMIT $limit
