-- Log records, oldest first.
WITH {logs_in_window},
record AS (
    SELECT *
    FROM in_window
    WHERE effective_ns > $since_ns{conditions}
    ORDER BY effective_ns, received_ns, hash(span_id, body, attributes) DESC
    LIMIT $limit
)
SELECT * EXCLUDE (resource_id, scope_id)
FROM record {resource_and_scope}
ORDER BY effective_ns, received_ns, hash(span_id, body, attributes) DESC
