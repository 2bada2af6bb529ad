-- Service and name of the root span of a trace; no row if the trace has no spans.
SELECT service_name, name FROM traces WHERE trace_id = $trace_id AND name IS NOT NULL
