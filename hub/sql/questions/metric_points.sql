-- The points of one metric, newest first.
SELECT *
FROM metric_points
WHERE name = $name AND time_ns BETWEEN $since_ns AND $until_ns{filters}
ORDER BY time_ns DESC, series_id
LIMIT $limit
