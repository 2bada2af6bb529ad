-- Log records of traces without spans, by service. Those of the last minute are left out: spans may still arrive. Traces
-- that were not sampled have no spans, and their log records do not have the sampled flag.
SELECT service_name, count(*) AS record_count, arg_max(trace_id, received_ns, 3) AS trace_ids
FROM logs
WHERE
    received_ns BETWEEN $since_ns AND $settled_ns AND trace_id IS NOT NULL AND (flags & 1) = 1
    AND trace_id NOT IN (SELECT trace_id FROM traces WHERE span_count > 0)
GROUP BY service_name
ORDER BY record_count DESC
LIMIT $limit
