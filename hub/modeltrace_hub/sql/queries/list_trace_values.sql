-- The most frequent values of a column of the newest traces.
SELECT value, count(*) AS record_count
FROM (SELECT ({expression})::VARCHAR AS value FROM traces ORDER BY received_ns DESC LIMIT $records)
WHERE value IS NOT NULL AND len(value) <= $max_length
GROUP BY value
ORDER BY record_count DESC, value
LIMIT $limit
