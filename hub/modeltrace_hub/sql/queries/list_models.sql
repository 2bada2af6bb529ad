-- The models with metrics or predictions in a window, and the services that serve them.
WITH telemetry AS (
    SELECT attributes, service_name, service_instance_id, time_ns
    FROM metric_points
    WHERE
        name IN (SELECT unnest($names))
        AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
    UNION ALL
    SELECT attributes, service_name, service_instance_id, time_ns
    FROM logs
    WHERE
        event_name IN ('ml.prediction', 'ml.model')
        AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
)
SELECT
    attributes ->> '/ml.model.name' AS name,
    attributes ->> '/ml.model.version' AS version,
    list_sort(list(DISTINCT service_name)) AS services,
    count(DISTINCT service_instance_id) AS instances,
    min(time_ns) AS first_ns,
    max(time_ns) AS last_ns
FROM telemetry
WHERE name IS NOT NULL AND ($name IS NULL OR name = $name)
GROUP BY ALL
ORDER BY name, max(time_ns) DESC, version
LIMIT $limit
