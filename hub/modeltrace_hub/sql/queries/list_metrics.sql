-- All metrics, each with its newest point. A time far ahead of the arrival counts as the arrival.
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
