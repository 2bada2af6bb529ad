-- The most frequent values of an attribute of the newest records of a table, and those of the resources.
WITH {newest_records}
SELECT value, count(*) AS record_count
FROM (
    SELECT json_extract_string(attributes, $key) AS value FROM newest_record
    UNION ALL
    SELECT json_extract_string(resource_attributes, $key) FROM resources
)
WHERE value IS NOT NULL AND len(value) <= $max_length
GROUP BY value
ORDER BY record_count DESC, value
LIMIT $limit
