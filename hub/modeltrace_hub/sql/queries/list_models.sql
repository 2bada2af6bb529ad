-- When each service instance sent metrics or predictions of each model in a window. Points are first grouped by all
-- columns that the result needs, because reading the JSON of each point takes much longer. Of log records, those from
-- `$known_since_ns` until before `$known_until_ns` are left out: modeltrace_hub/queries/prediction_activity.py has them.
SELECT
    attributes ->> '/ml.model.name' AS name, attributes ->> '/ml.model.version' AS version,
    service_name, service_instance_id, first_ns, last_ns
FROM (
    SELECT attributes, service_name, service_instance_id, min(time_ns) AS first_ns, max(time_ns) AS last_ns
    FROM metric_points
    WHERE
        name IN (SELECT unnest($names))
        AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
    GROUP BY attributes, service_name, service_instance_id
)
UNION ALL
SELECT model[1], model[2], service_name, service_instance_id, min(time_ns), max(time_ns)
FROM (
    SELECT
        json_extract_string(attributes, ['/ml.model.name', '/ml.model.version']) AS model,
        service_name, service_instance_id, time_ns
    FROM logs
    WHERE
        event_name IN ('ml.prediction', 'ml.model')
        AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
        AND (time_ns < $known_since_ns OR time_ns >= $known_until_ns)
)
GROUP BY model, service_name, service_instance_id
