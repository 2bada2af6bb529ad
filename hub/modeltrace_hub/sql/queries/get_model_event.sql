-- The `ml.model` event that was logged when a model was last loaded. For a model with many features, the event consists
-- of several records (parts).
WITH event AS (
    SELECT body, time_ns, attributes ->> '/ml.model.part' AS part, attributes ->> '/ml.model.hash' AS hash
    FROM logs
    WHERE
        event_name = 'ml.model'
        AND attributes ->> '/ml.model.name' = $model
        AND ($version IS NULL OR attributes ->> '/ml.model.version' = $version)
        AND ($hash IS NULL OR attributes ->> '/ml.model.hash' = $hash)
)
SELECT body
FROM event
WHERE hash IS NOT DISTINCT FROM (SELECT arg_max(hash, time_ns) FROM event)
QUALIFY row_number() OVER (PARTITION BY part ORDER BY time_ns DESC) = 1
ORDER BY part
