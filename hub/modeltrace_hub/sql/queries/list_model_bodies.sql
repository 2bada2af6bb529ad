-- The last `ml.model` event of each version and hash of a model, in the order of these events. Each part of an event has
-- the classes of the model.
SELECT
    coalesce(attributes ->> '/ml.model.version', '') AS version,
    coalesce(attributes ->> '/ml.model.hash', '') AS hash,
    arg_max(body, time_ns) AS body
FROM logs
WHERE event_name = 'ml.model' AND attributes ->> '/ml.model.name' = $model
GROUP BY version, hash
ORDER BY max(time_ns)
