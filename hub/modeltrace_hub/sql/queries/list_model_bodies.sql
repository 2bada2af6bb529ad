-- The last `ml.model` event of each version of a model. Each part of an event has the classes of the model.
SELECT coalesce(attributes ->> '/ml.model.version', '') AS version, arg_max(body, time_ns) AS body
FROM logs
WHERE event_name = 'ml.model' AND attributes ->> '/ml.model.name' = $model
GROUP BY version
