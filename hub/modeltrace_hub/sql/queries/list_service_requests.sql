-- Requests, errors and durations of each service by step; the row without a step is that of the whole time.
WITH {service_requests}
SELECT
    service_name,
    step,
    count(*) AS request_count,
    count(*) FILTER (failed) AS error_count,
    quantile_cont(duration_ns, [0.5, 0.95, 0.99]) AS durations_ns
FROM (SELECT *, (start_ns - $since_ns) // $step_ns AS step FROM request)
GROUP BY GROUPING SETS ((service_name, step), (service_name))
ORDER BY service_name, step NULLS FIRST
