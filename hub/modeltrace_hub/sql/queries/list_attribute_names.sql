-- The attributes of the newest records of a table and of the resources, those that most records have first.
WITH {newest_records}
SELECT name, count(*) AS record_count
FROM (
    SELECT unnest(json_keys(attributes)) AS name FROM newest_record
    UNION ALL
    SELECT unnest(json_keys(resource_attributes)) FROM resources
)
GROUP BY name
ORDER BY record_count DESC, name
LIMIT $limit
