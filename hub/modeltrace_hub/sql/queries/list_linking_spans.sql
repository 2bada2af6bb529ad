-- The spans that link to a trace: to one span (`linked_span_id`), or to the trace. A span that links to another one
-- starts after it, so it arrives at most a few minutes earlier.
WITH linking AS (
    SELECT trace_id, span_id, name, service_name, start_ns, links
    FROM spans
    WHERE received_ns >= $first_received_ns - 300_000_000_000 AND contains(links::VARCHAR, $trace_id)
    QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
    ORDER BY start_ns
    LIMIT $limit
)
SELECT trace_id, span_id, name, service_name, start_ns, link ->> '/span_id' AS linked_span_id, link -> '/attributes' AS attributes
FROM linking, unnest(linking.links::JSON[]) AS item (link)
WHERE link ->> '/trace_id' = $trace_id
ORDER BY start_ns
