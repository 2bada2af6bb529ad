-- Services whose spans have many different attribute keys, or large attributes.
WITH span AS (
    SELECT service_name, trace_id, attributes, strlen(CAST(attributes AS VARCHAR)) AS size
    FROM spans
    WHERE received_ns >= $since_ns
),
attribute_key AS (
    SELECT service_name, count(DISTINCT key) AS key_count
    FROM (SELECT service_name, unnest(json_keys(attributes)) AS key FROM (SELECT DISTINCT service_name, attributes FROM span))
    GROUP BY service_name
),
total AS (
    SELECT
        service_name, max(size) AS size, count(*) FILTER (size > $max_bytes) AS large_count, arg_max(trace_id, size, 3) AS trace_ids
    FROM span
    GROUP BY service_name
)
SELECT service_name, size, large_count, coalesce(key_count, 0) AS key_count, trace_ids
FROM total LEFT JOIN attribute_key USING (service_name)
WHERE large_count > 0 OR key_count > $max_keys
ORDER BY large_count DESC, key_count DESC
LIMIT $limit
