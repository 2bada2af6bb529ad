-- What a model said of itself when it was last loaded; of many features, in several records.
WITH said AS (
    SELECT body, time_ns, attributes ->> '/ml.model.part' AS part, attributes ->> '/ml.model.hash' AS hash
    FROM logs
    WHERE
        event_name = 'ml.model'
        AND attributes ->> '/ml.model.name' = $model
        AND ($version IS NULL OR attributes ->> '/ml.model.version' = $version)
)
SELECT body
FROM said
WHERE hash IS NOT DISTINCT FROM (SELECT arg_max(hash, time_ns) FROM said)
QUALIFY row_number() OVER (PARTITION BY part ORDER BY time_ns DESC) = 1
ORDER BY part
