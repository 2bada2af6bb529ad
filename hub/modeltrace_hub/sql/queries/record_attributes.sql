-- The distinct values that the log records of one trace have under some keys (JSON pointers, one value a pointer), and
-- when the first and the last of each were written. However many records a batch has, these are few.
SELECT
    span_id, event_name, service_name, service_instance_id, json_extract(attributes, $pointers) AS found,
    min(time_ns) AS first_ns, max(time_ns) AS last_ns, count(*) AS record_count
FROM logs
WHERE trace_id = $trace_id
GROUP BY ALL
ORDER BY record_count DESC
LIMIT $limit
