-- The service instances that sent some metrics in a window, by service.
SELECT service_name, list_sort(list(DISTINCT service_instance_id)) AS instances
FROM metric_points
WHERE
    name IN (SELECT unnest($names))
    AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
GROUP BY service_name
ORDER BY service_name
