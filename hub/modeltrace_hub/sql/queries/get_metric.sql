-- The types of a metric with their newest properties, the last received first.
SELECT
    type, unit, arg_max(description, received_ns) AS description, arg_max(temporality, received_ns) AS temporality,
    arg_max(is_monotonic, received_ns) AS is_monotonic, max(received_ns) AS received_ns, max(time_ns) AS last_ns,
    count(DISTINCT series_id) AS series_count, list_sort(list(DISTINCT service_name)) AS services,
    list_sort(list(DISTINCT service_instance_id)) AS instances
FROM metric_points
WHERE name = $name
GROUP BY type, unit
ORDER BY max(received_ns) DESC, type, unit
