-- The next traces, newest first, that meet the conditions: their number, the last of them, and when their records
-- arrived.
SELECT
    count(*) AS trace_count,
    min(start_ns) AS last_ns,
    arg_min(trace_id, (start_ns, trace_id)) AS last_id,
    min(first_received_ns) AS first_received_ns,
    max(received_ns) AS last_received_ns
FROM (
    SELECT start_ns, trace_id, first_received_ns, received_ns
    FROM traces
    WHERE
        span_count > 0
        AND start_ns <= $before_ns AND (start_ns < $before_ns OR trace_id < $before_id){conditions}
    ORDER BY start_ns DESC, trace_id DESC
    LIMIT $limit
)
