-- The most frequent values of a column, or of another expression, of the newest records of a table.
WITH {newest_records}
SELECT value, count(*) AS record_count
FROM (SELECT ({expression})::VARCHAR AS value FROM newest_record)
WHERE value <> '' AND len(value) <= $max_length
GROUP BY value
ORDER BY record_count DESC, value
LIMIT $limit
