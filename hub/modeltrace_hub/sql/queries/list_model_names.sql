-- The names of the models with the event `ml.model`, the last loaded first.
SELECT attributes ->> '/ml.model.name' AS model
FROM logs
WHERE event_name = 'ml.model' AND model IS NOT NULL
GROUP BY model
ORDER BY max(time_ns) DESC
LIMIT $limit
