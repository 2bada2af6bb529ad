-- The increases of the counters and histograms of a service, by step.
WITH {counter_increases}
SELECT name, attributes, bucket, bounds, step, added
FROM increase
WHERE added > 0
ORDER BY name, attributes, bucket, step
