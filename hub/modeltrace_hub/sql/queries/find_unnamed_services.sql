-- Records without a service name, or with the name that SDKs choose if none is set, by name.
WITH record AS (
    SELECT service_name, 'spans' AS signal, trace_id FROM spans WHERE received_ns >= $since_ns
    UNION ALL
    SELECT service_name, 'log records', trace_id FROM logs WHERE received_ns >= $since_ns
    UNION ALL
    SELECT service_name, 'data points', NULL FROM metric_points WHERE received_ns >= $since_ns
)
SELECT service_name, signal, count(*) AS record_count, list_slice(list(DISTINCT trace_id) FILTER (trace_id IS NOT NULL), 1, 3) AS trace_ids
FROM record
WHERE service_name = '' OR starts_with(service_name, 'unknown_service')
GROUP BY service_name, signal
ORDER BY record_count DESC
LIMIT $limit
