-- The HTTP requests of a service by step: all, those that failed, those with a bound of `$slow_seconds` in their
-- histogram, and of these the ones that took longer.
WITH {counter_increases}
SELECT
    step,
    sum(added) AS requests,
    sum(added) FILTER (starts_with(attributes ->> '/http.response.status_code', '5')) AS failed,
    sum(added) FILTER (list_contains(bounds, $slow_seconds)) AS timed,
    sum(added) FILTER (bucket > list_position(bounds, $slow_seconds)) AS slow
FROM increase
WHERE added > 0
GROUP BY step
ORDER BY step
