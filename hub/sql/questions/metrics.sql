-- The metrics there are, each with its newest point.
SELECT
    name,
    type,
    unit,
    arg_max(description, time_ns) AS description,
    arg_max(temporality, time_ns) AS temporality,
    list_sort(list(DISTINCT service_name)) AS services,
    count(DISTINCT series_id) AS series_count,
    max(time_ns) AS last_ns,
    arg_max({'value': value, 'value_int': value_int, 'count': count, 'sum': sum}, time_ns) AS last
FROM metric_points
GROUP BY name, type, unit
ORDER BY name, type, unit
LIMIT $limit
