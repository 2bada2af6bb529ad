-- All metrics, each with its newest point. If the time of a point is far ahead of its arrival, the arrival is used.
WITH point AS (
    SELECT *, CASE WHEN time_ns <= received_ns + {max_clock_skew_ns} THEN time_ns ELSE received_ns END AS effective_ns
    FROM metric_points
)
SELECT
    name,
    type,
    unit,
    arg_max(description, effective_ns) AS description,
    arg_max(temporality, effective_ns) AS temporality,
    list_sort(list(DISTINCT service_name)) AS services,
    count(DISTINCT series_id) AS series_count,
    max(effective_ns) AS last_ns,
    arg_max({'value': value, 'value_int': value_int, 'count': count, 'sum': sum}, effective_ns) AS last
FROM point
GROUP BY name, type, unit
ORDER BY name, type, unit
LIMIT $limit
