-- The exemplars of one metric that have a trace, newest first.
SELECT trace_id, span_id, time_ns, value, service_name
FROM exemplars
WHERE
    metric_name = $name AND trace_id IS NOT NULL AND value IS NOT NULL AND time_ns BETWEEN $since_ns AND $until_ns
    AND received_ns >= $since_ns - {max_clock_skew_ns}
ORDER BY time_ns DESC
LIMIT $limit
