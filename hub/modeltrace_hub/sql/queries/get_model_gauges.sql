-- The newest value of each gauge of all models, from any service instance.
SELECT
    name, attributes ->> '/ml.model.name' AS model, coalesce(attributes ->> '/ml.model.version', '') AS version,
    attributes, arg_max(value, time_ns) AS value, max(time_ns) AS time_ns
FROM metric_points
WHERE
    name IN (SELECT unnest($gauges))
    AND time_ns BETWEEN $since_ns - $lookback_ns AND $until_ns
    AND received_ns >= $since_ns - $lookback_ns - {max_clock_skew_ns}
    AND type = 'gauge' AND (flags & 1) = 0 AND isfinite(value)
    AND attributes ->> '/ml.model.name' IS NOT NULL
    AND ($sources IS NULL OR list_contains($sources, service_name || chr(31) || service_instance_id))
GROUP BY name, attributes
ORDER BY name, attributes
