-- Log records, newest first.
WITH {logs_in_window},
record AS (
    SELECT *
    FROM in_window
    WHERE effective_ns > $since_ns{conditions}
    ORDER BY effective_ns DESC, received_ns DESC
    LIMIT $limit
)
SELECT * EXCLUDE (effective_ns, resource_id, scope_id)
FROM record {resource_and_scope}
ORDER BY effective_ns DESC, received_ns DESC
