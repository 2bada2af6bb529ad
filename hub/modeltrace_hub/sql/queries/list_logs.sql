-- Log records, newest first. Records with equal times are in an order that does not change.
WITH {logs_in_window},
record AS (
    SELECT *
    FROM in_window
    WHERE effective_ns > $since_ns{conditions}
    ORDER BY effective_ns DESC, received_ns DESC, hash(span_id, body, attributes)
    LIMIT $limit
)
SELECT * EXCLUDE (resource_id, scope_id)
FROM record {resource_and_scope}
ORDER BY effective_ns DESC, received_ns DESC, hash(span_id, body, attributes)
