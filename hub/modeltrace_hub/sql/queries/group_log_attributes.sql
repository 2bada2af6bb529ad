-- The distinct combinations of values that the log records of a trace have under some keys (JSON pointers), with the
-- times of the first and last record. A batch has many records but few combinations.
SELECT
    span_id, event_name, service_name, service_instance_id, json_extract(attributes, $pointers) AS values,
    min(time_ns) AS first_ns, max(time_ns) AS last_ns, count(*) AS record_count
FROM logs
WHERE trace_id = $trace_id
GROUP BY ALL
ORDER BY record_count DESC
LIMIT $limit
