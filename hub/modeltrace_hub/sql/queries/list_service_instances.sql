-- The instances of each service with their version, requests and errors, and when their last span arrived.
WITH {service_requests}
SELECT
    service_name, service_instance_id, coalesce(resource_attributes ->> '/service.version', '') AS version,
    count(*) AS request_count, count(*) FILTER (failed) AS error_count, max(received_ns) AS last_seen_ns
FROM request JOIN resources USING (resource_id)
GROUP BY ALL
ORDER BY service_name, last_seen_ns DESC, service_instance_id
