-- What a model said of itself when it was last loaded.
SELECT attributes, body, time_ns
FROM logs
WHERE
    event_name = 'ml.model'
    AND attributes ->> '/ml.model.name' = $model
    AND ($version IS NULL OR attributes ->> '/ml.model.version' = $version)
ORDER BY time_ns DESC
LIMIT 1
