-- Spans whose parent is not stored, by service. Spans of the last minute are left out: their parents may still arrive.
WITH child AS (
    SELECT trace_id, span_id, parent_span_id, service_name, received_ns
    FROM spans
    WHERE received_ns BETWEEN $since_ns AND $settled_ns AND parent_span_id IS NOT NULL
)
SELECT
    service_name, count(*) AS record_count, count(DISTINCT child.trace_id) AS trace_count,
    arg_max(child.trace_id, child.received_ns, 3) AS trace_ids
FROM child
WHERE NOT EXISTS (
    SELECT 1 FROM spans AS parent WHERE parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id
)
GROUP BY service_name
ORDER BY record_count DESC
LIMIT $limit
