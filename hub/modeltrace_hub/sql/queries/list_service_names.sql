-- The names of the services with stored telemetry. Each record refers to a resource, so the records are not read.
SELECT DISTINCT coalesce(resource_attributes ->> '/service.name', '') AS service_name
FROM resources
ORDER BY service_name
LIMIT $limit
