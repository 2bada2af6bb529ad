-- Metrics with many series of one service instance, each with the attribute that has the most values.
WITH series AS (
    SELECT service_name, service_instance_id, name, series_id, any_value(attributes) AS attributes
    FROM metric_points
    WHERE received_ns >= $since_ns
    GROUP BY service_name, service_instance_id, name, series_id
),
metric AS (
    SELECT service_name, service_instance_id, name, count(*) AS series_count
    FROM series
    GROUP BY service_name, service_instance_id, name
    HAVING series_count > $max_series
),
attribute AS (
    SELECT service_name, service_instance_id, name, key, count(DISTINCT json_extract_string(attributes, '/' || replace(replace(key, '~', '~0'), '/', '~1'))) AS value_count
    FROM (SELECT *, unnest(json_keys(attributes)) AS key FROM series JOIN metric USING (service_name, service_instance_id, name))
    GROUP BY service_name, service_instance_id, name, key
)
SELECT
    service_name, name, max(series_count) AS series_count, arg_max(key, value_count) AS key, max(value_count) AS value_count
FROM metric LEFT JOIN attribute USING (service_name, service_instance_id, name)
GROUP BY service_name, name
ORDER BY series_count DESC
LIMIT $limit
