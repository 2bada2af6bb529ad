-- The log records of a trace, grouped by the values of some attributes. `$pointers` are the JSON pointers to these
-- attributes. A batch has many records but few groups.
SELECT
    span_id, event_name, service_name, service_instance_id, json_extract(attributes, $pointers) AS values,
    min(time_ns) AS first_ns, max(time_ns) AS last_ns, count(*) AS record_count
FROM logs
WHERE trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
GROUP BY ALL
ORDER BY record_count DESC
LIMIT $limit
