-- The models by name, version and hash. `sources` are the service instances that loaded the model and counted
-- predictions in the window: the name of the service, U+001F and the instance ID, which is unique within a service only.
-- An instance logs the hash of a model when it loads the model.
WITH loaded AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        service_name || chr(31) || service_instance_id AS source,
        arg_max(attributes ->> '/ml.model.hash', time_ns) AS hash,
        max(time_ns) AS loaded_ns
    FROM logs
    WHERE event_name = 'ml.model'
    GROUP BY ALL
)
SELECT model, version, hash, list_sort(list(source)) AS sources, max(loaded_ns) AS loaded_ns
FROM loaded
WHERE
    hash IS NOT NULL
    AND source IN (
        SELECT service_name || chr(31) || service_instance_id
        FROM metric_points
        WHERE name = 'ml.predictions' AND time_ns BETWEEN $since_ns AND $until_ns
    )
GROUP BY model, version, hash
ORDER BY max(loaded_ns) DESC, model, version, hash
