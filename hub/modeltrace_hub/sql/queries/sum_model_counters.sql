-- The increases of the counters and histograms of all models, by step.
WITH {counter_increases}
SELECT
    name, attributes ->> '/ml.model.name' AS model, coalesce(attributes ->> '/ml.model.version', '') AS version,
    attributes, bucket, bounds, step, added
FROM increase
WHERE added > 0 AND model IS NOT NULL
ORDER BY name, attributes, bucket, step
