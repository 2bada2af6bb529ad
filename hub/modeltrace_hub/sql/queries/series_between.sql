-- The series of some service instances that were exported in a time span and to which single requests add up:
-- histograms and counters. A gauge or an up-down counter holds a state, not a sum of what passed. A series without
-- attributes says nothing by which it could be matched.
SELECT
    series_id, any_value(name) AS name, any_value(unit) AS unit, any_value(attributes) AS attributes,
    any_value(service_instance_id) AS service_instance_id, any_value(service_name) AS service_name
FROM metric_points
WHERE
    time_ns BETWEEN $from_ns AND $until_ns
    AND service_instance_id IN (SELECT unnest($instances))
    AND (type IN ('histogram', 'exponential_histogram') OR (type = 'sum' AND is_monotonic))
    AND attributes <> '{}'
GROUP BY series_id
ORDER BY name, series_id
LIMIT $limit
