-- The points of one metric, newest first.
WITH {points_in_window}
SELECT * EXCLUDE (effective_ns)
FROM in_window
WHERE true{conditions}
ORDER BY effective_ns DESC, series_id
LIMIT $limit
