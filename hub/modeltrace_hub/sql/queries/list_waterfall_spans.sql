-- The columns of each span that the waterfall shows. Attributes are omitted, because they are large.
SELECT
    span_id, parent_span_id, name, kind, start_ns, end_ns, received_ns,
    {span_duration} AS duration_ns, status_code, service_name,
    json_extract_string(attributes, '/error.type') AS error_type,
    json_array_length(links) AS link_count
FROM spans
WHERE trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
QUALIFY row_number() OVER (PARTITION BY {span_identity} ORDER BY received_ns) = 1
ORDER BY start_ns, (parent_span_id IS NOT NULL), end_ns DESC, span_id, name, kind
LIMIT $limit
