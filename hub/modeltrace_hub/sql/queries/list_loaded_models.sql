-- The models by name, version and hash. `instances` are the service instances that loaded the model and counted
-- predictions in the window. An instance logs the hash of a model when it loads the model.
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
ORDER BY max(loaded_ns) DESC, model, version, hash
