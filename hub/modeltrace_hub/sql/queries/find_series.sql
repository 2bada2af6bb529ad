-- The counter and histogram series of some service instances with points in a time range. Gauges and up-down counters
-- hold a state, so a single request does not contribute to them. A series without attributes cannot be matched.
SELECT
    series_id, any_value(name) AS name, any_value(unit) AS unit, any_value(attributes) AS attributes,
    any_value(service_instance_id) AS service_instance_id, any_value(service_name) AS service_name
FROM metric_points
WHERE
    time_ns BETWEEN $since_ns AND $until_ns
    AND service_instance_id IN (SELECT unnest($instances))
    AND (type IN ('histogram', 'exponential_histogram') OR (type = 'sum' AND is_monotonic))
    AND attributes <> '{}'
GROUP BY series_id
ORDER BY name, series_id
LIMIT $limit
