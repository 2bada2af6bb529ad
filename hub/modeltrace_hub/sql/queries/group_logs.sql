-- Similar log records among the newest `$max_records`: those of a service, severity and event whose texts differ in
-- numbers and IDs only. The most frequent group is first.
WITH {logs_in_window},
record AS (
    SELECT service_name, severity_number, severity_text, event_name, body, trace_id, span_id, effective_ns
    FROM in_window
    WHERE effective_ns > $since_ns{conditions}
    ORDER BY effective_ns DESC
    LIMIT $max_records
)
SELECT
    {log_pattern} AS pattern, service_name, severity_number, any_value(severity_text) AS severity_text, event_name,
    count(*) AS record_count, min(effective_ns) AS first_ns, max(effective_ns) AS last_ns,
    arg_max(coalesce(body, event_name), effective_ns) AS example,
    arg_max(trace_id, effective_ns) AS trace_id, arg_max(span_id, effective_ns) AS span_id
FROM record
GROUP BY pattern, service_name, severity_number, event_name
ORDER BY record_count DESC, last_ns DESC
LIMIT $limit
