-- Spans and log records whose times are ahead of their arrival (a wrong clock), or long before it (late), by service.
WITH record AS (
    SELECT service_name, trace_id, received_ns, end_ns AS time_ns FROM spans WHERE received_ns >= $since_ns AND end_ns > 0
    UNION ALL
    SELECT service_name, trace_id, received_ns, time_ns FROM logs WHERE received_ns >= $since_ns
)
SELECT
    service_name,
    count(*) FILTER (time_ns - received_ns > $min_ahead_ns) AS ahead_count,
    max(time_ns - received_ns) AS ahead_ns,
    arg_max(trace_id, time_ns - received_ns, 3) FILTER (time_ns - received_ns > $min_ahead_ns) AS ahead_trace_ids,
    count(*) FILTER (received_ns - time_ns > $min_late_ns) AS late_count,
    max(received_ns - time_ns) AS late_ns,
    arg_max(trace_id, received_ns - time_ns, 3) FILTER (received_ns - time_ns > $min_late_ns) AS late_trace_ids
FROM record
GROUP BY service_name
HAVING ahead_count > 0 OR late_count > 0
ORDER BY ahead_count + late_count DESC
LIMIT $limit
