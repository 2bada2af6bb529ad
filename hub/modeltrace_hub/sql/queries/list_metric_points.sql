-- The points of one metric, newest first.
WITH {points_in_window},
point AS (
    SELECT *
    FROM in_window
    WHERE true{conditions}
    ORDER BY effective_ns DESC, series_id
    LIMIT $limit
)
SELECT * EXCLUDE (effective_ns, resource_id, scope_id)
FROM point {resource_and_scope}
ORDER BY effective_ns DESC, series_id
