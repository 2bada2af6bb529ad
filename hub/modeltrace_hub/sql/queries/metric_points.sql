-- The points of one metric, newest first.
WITH {listed_points}
SELECT * EXCLUDE (listed_ns)
FROM listed
WHERE name = $name{filters}
ORDER BY listed_ns DESC, series_id
LIMIT $limit
