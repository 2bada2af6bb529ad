-- The services of the spans and log records of a trace.
SELECT DISTINCT service_name
FROM (
    SELECT service_name FROM spans
    WHERE trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    UNION ALL
    SELECT service_name FROM logs
    WHERE trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
)
ORDER BY service_name
LIMIT $limit
