-- The calls between services: a span whose parent is of another service. Of every `$every` traces, one is examined.
WITH called AS (
    SELECT trace_id, span_id, parent_span_id, service_name, status_code, {span_duration} AS duration_ns
    FROM spans
    WHERE
        start_ns >= $since_ns AND start_ns < $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
        AND hash(trace_id) % $every = 0
)
SELECT
    caller.service_name AS caller, called.service_name AS called,
    count(*) AS call_count, count(*) FILTER (called.status_code = 'ERROR') AS error_count,
    quantile_cont(called.duration_ns, 0.95) AS p95_ns
FROM called JOIN called AS caller
    ON caller.trace_id = called.trace_id AND caller.span_id = called.parent_span_id
WHERE caller.service_name <> called.service_name
GROUP BY ALL
ORDER BY call_count DESC, caller, called
LIMIT $limit
