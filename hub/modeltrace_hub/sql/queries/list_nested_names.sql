-- The names of the values inside an attribute of the newest records of a table.
WITH {newest_records}
SELECT name, count(*) AS record_count
FROM (SELECT unnest(json_keys(attributes, $key)) AS name FROM newest_record)
GROUP BY name
ORDER BY record_count DESC, name
LIMIT $limit
