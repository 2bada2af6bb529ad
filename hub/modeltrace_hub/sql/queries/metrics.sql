-- The metrics there are, each with its newest point.
WITH listed AS (
    SELECT *, CASE WHEN time_ns <= received_ns + {slack_ns} THEN time_ns ELSE received_ns END AS listed_ns
    FROM metric_points
)
SELECT
    name,
    type,
    unit,
    arg_max(description, listed_ns) AS description,
    arg_max(temporality, listed_ns) AS temporality,
    list_sort(list(DISTINCT service_name)) AS services,
    count(DISTINCT series_id) AS series_count,
    max(listed_ns) AS last_ns,
    arg_max({'value': value, 'value_int': value_int, 'count': count, 'sum': sum}, listed_ns) AS last
FROM listed
GROUP BY name, type, unit
ORDER BY name, type, unit
LIMIT $limit
