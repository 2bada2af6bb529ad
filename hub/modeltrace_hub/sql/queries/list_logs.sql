-- Log records, newest first.
WITH {logs_in_window}
SELECT * EXCLUDE (effective_ns)
FROM in_window
WHERE true{conditions}
ORDER BY effective_ns DESC, received_ns DESC
LIMIT $limit
