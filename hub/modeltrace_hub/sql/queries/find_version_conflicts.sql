-- Different models (by hash) with the same name and version, and the service instances of each that counted predictions
-- in the window. A service instance logs the hash of its model when it loads it.
WITH loaded AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        service_instance_id,
        arg_max(attributes ->> '/ml.model.hash', time_ns) AS hash,
        max(time_ns) AS loaded_ns
    FROM logs
    WHERE event_name = 'ml.model'
    GROUP BY ALL
)
SELECT model, version, hash, list_sort(list(service_instance_id)) AS instances, max(loaded_ns) AS loaded_ns
FROM loaded
WHERE
    hash IS NOT NULL
    AND service_instance_id IN (
        SELECT service_instance_id
        FROM metric_points
        WHERE name = 'ml.predictions' AND time_ns BETWEEN $since_ns AND $until_ns
    )
GROUP BY model, version, hash
QUALIFY count(*) OVER (PARTITION BY model, version) > 1
ORDER BY max(loaded_ns) DESC, model, version, hash
