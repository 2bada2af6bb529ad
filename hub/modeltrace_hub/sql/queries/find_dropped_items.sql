-- Attributes, events and links that SDKs dropped at their limits, by service.
WITH record AS (
    SELECT
        service_name, trace_id,
        CAST(dropped_attributes_count AS BIGINT) + dropped_events_count + dropped_links_count AS dropped
    FROM spans
    WHERE received_ns >= $since_ns
    UNION ALL
    SELECT service_name, trace_id, dropped_attributes_count FROM logs WHERE received_ns >= $since_ns
)
SELECT
    service_name, sum(dropped)::BIGINT AS dropped_count, count(*) AS record_count, arg_max(trace_id, dropped, 3) AS trace_ids
FROM record
WHERE dropped > 0
GROUP BY service_name
ORDER BY dropped_count DESC
LIMIT $limit
