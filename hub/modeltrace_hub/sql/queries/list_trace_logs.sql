-- The log records of a trace by time: all or those of one span, with or without the prediction log records.
SELECT * EXCLUDE (resource_id, scope_id)
FROM logs {resource_and_scope}
WHERE
    trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    AND ($span_id IS NULL OR span_id = $span_id)
    AND ($with_predictions OR event_name <> 'ml.prediction')
ORDER BY time_ns, received_ns
LIMIT $limit
