-- The time of the newest metric point of some service instances.
SELECT max(time_ns) AS time_ns FROM metric_points WHERE service_instance_id IN (SELECT unnest($instances))
