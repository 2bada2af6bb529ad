-- The models with metrics or predictions in a window, and the services that serve them. Records are first grouped by all
-- columns that the result needs, because reading JSON and counting distinct values of each record takes much longer.
WITH telemetry AS (
    SELECT
        attributes ->> '/ml.model.name' AS name, attributes ->> '/ml.model.version' AS version,
        service_name, service_instance_id, first_ns, last_ns
    FROM (
        SELECT attributes, service_name, service_instance_id, min(time_ns) AS first_ns, max(time_ns) AS last_ns
        FROM metric_points
        WHERE
            name IN (SELECT unnest($names))
            AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
        GROUP BY attributes, service_name, service_instance_id
    )
    UNION ALL
    SELECT model[1], model[2], service_name, service_instance_id, min(time_ns), max(time_ns)
    FROM (
        SELECT
            json_extract_string(attributes, ['/ml.model.name', '/ml.model.version']) AS model,
            service_name, service_instance_id, time_ns
        FROM logs
        WHERE
            event_name IN ('ml.prediction', 'ml.model')
            AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
    )
    GROUP BY model, service_name, service_instance_id
)
SELECT
    name,
    version,
    list_sort(list(DISTINCT service_name)) AS services,
    count(DISTINCT service_instance_id) AS instances,
    min(first_ns) AS first_ns,
    max(last_ns) AS last_ns
FROM telemetry
WHERE name IS NOT NULL AND ($name IS NULL OR name = $name)
GROUP BY name, version
ORDER BY name, max(telemetry.last_ns) DESC, version
LIMIT $limit
