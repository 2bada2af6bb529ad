-- Log records, newest first.
SELECT *
FROM logs
WHERE time_ns BETWEEN $since_ns AND $until_ns{filters}
ORDER BY time_ns DESC, received_ns DESC
LIMIT $limit
