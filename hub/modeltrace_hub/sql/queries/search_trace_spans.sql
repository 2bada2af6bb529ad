-- The IDs of the spans of a trace that contain a text, in lower case, in one of their fields.
SELECT DISTINCT span_id
FROM spans
WHERE
    trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    AND (
        contains(lower(name), $text) OR contains(lower(service_name), $text) OR span_id = $text
        OR contains(lower(status_message), $text)
        OR contains(lower(attributes::VARCHAR), $json_text) OR contains(lower(events::VARCHAR), $json_text)
    )
LIMIT $limit
