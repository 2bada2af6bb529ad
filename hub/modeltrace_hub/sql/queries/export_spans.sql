-- Whole spans, grouped by resource and scope. Copies of a span that was sent twice are removed.
WITH span AS (
    SELECT *
    FROM spans
    WHERE true{conditions}
    QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
)
SELECT * FROM span {resource_and_scope}
ORDER BY resource_id, scope_id, start_ns, span_id
LIMIT $limit
