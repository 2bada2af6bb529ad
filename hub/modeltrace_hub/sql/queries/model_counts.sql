-- What the counters and histograms of all models added, step by step.
WITH {increments}
SELECT
    name, attributes ->> '/ml.model.name' AS model, coalesce(attributes ->> '/ml.model.version', '') AS version,
    attributes, place, bounds, step, added
FROM increment
WHERE added > 0 AND model IS NOT NULL
ORDER BY name, attributes, place, step
