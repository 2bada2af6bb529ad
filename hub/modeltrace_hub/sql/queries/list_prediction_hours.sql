-- The first and the last prediction of each model and service instance in each hour, of the log records from row number
-- `$next_row` on. The hour of records whose time is far ahead of their arrival is NULL.
SELECT
    model[1] AS name, model[2] AS version, service_name, service_instance_id, hour,
    min(time_ns) AS first_ns, max(time_ns) AS last_ns, count(*) AS record_count
FROM (
    SELECT
        json_extract_string(attributes, ['/ml.model.name', '/ml.model.version']) AS model,
        service_name, service_instance_id, time_ns,
        CASE WHEN time_ns <= received_ns + {max_clock_skew_ns} THEN time_ns // 3_600_000_000_000 END AS hour
    FROM logs
    WHERE event_name IN ('ml.prediction', 'ml.model') AND rowid >= $next_row
)
GROUP BY model, service_name, service_instance_id, hour
