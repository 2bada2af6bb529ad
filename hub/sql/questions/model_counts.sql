-- What the counters and histograms of all models added, step by step.
WITH {increments}
SELECT name, attributes, place, bounds, step, added
FROM increment
WHERE added > 0 AND json_exists(attributes, '/ml.model.name')
ORDER BY name, attributes, place, step
