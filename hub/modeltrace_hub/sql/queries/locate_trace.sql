-- The time in which all spans and log records of a trace arrived; no row if there are none.
SELECT first_received_ns, received_ns AS last_received_ns FROM traces WHERE trace_id = $trace_id
