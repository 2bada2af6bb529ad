-- The spans that a span links to. `traces` has the time in which they arrived.
WITH linked AS (
    SELECT min(first_received_ns) AS first_ns, max(received_ns) AS last_ns
    FROM traces
    WHERE list_contains($trace_ids, trace_id)
)
SELECT DISTINCT ON (trace_id, span_id) trace_id, span_id, name, service_name, start_ns
FROM spans
WHERE
    received_ns BETWEEN (SELECT first_ns FROM linked) AND (SELECT last_ns FROM linked)
    AND list_contains($span_ids, span_id) AND list_contains($trace_ids, trace_id)
LIMIT $limit
