-- Log records, newest first.
WITH {listed_logs}
SELECT * EXCLUDE (listed_ns)
FROM listed
WHERE true{filters}
ORDER BY listed_ns DESC, received_ns DESC
LIMIT $limit
