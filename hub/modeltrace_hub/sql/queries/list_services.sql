-- The services with stored telemetry.
SELECT
    service_name,
    count(DISTINCT service_instance_id) AS instances,
    max(received_ns) AS last_seen_ns,
    sum(spans)::BIGINT AS span_count,
    sum(logs)::BIGINT AS log_count,
    sum(points)::BIGINT AS point_count
FROM (
    SELECT service_name, service_instance_id, max(received_ns) AS received_ns, count(*) AS spans, 0 AS logs, 0 AS points
    FROM spans GROUP BY service_name, service_instance_id
    UNION ALL
    SELECT service_name, service_instance_id, max(received_ns), 0, count(*), 0
    FROM logs GROUP BY service_name, service_instance_id
    UNION ALL
    SELECT service_name, service_instance_id, max(received_ns), 0, 0, count(*)
    FROM metric_points GROUP BY service_name, service_instance_id
)
GROUP BY service_name
ORDER BY service_name
LIMIT $limit
