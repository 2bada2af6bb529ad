-- Whole log records, grouped by resource and scope.
WITH log AS (
    SELECT *
    FROM logs
    WHERE true{conditions}
)
SELECT * FROM log {resource_and_scope}
ORDER BY resource_id, scope_id, time_ns, received_ns
LIMIT $limit
