-- One span with all that it carries.
SELECT * FROM spans WHERE trace_id = $trace_id AND span_id = $span_id ORDER BY received_ns LIMIT 1
