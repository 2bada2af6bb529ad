-- The attributes of each metric with the number of their different values, and its series. All points of a series have
-- the same attributes, so JSON is parsed once for each series.
WITH series AS (
    SELECT name, type, unit, series_id, any_value(attributes) AS attributes
    FROM metric_points
    WHERE $name IS NULL OR name = $name
    GROUP BY name, type, unit, series_id
),
attribute AS (
    SELECT name, type, unit, unnest(map_keys(attributes)) AS key, unnest(map_values(attributes)) AS value
    FROM (SELECT * REPLACE (TRY_CAST(attributes AS MAP(VARCHAR, JSON)) AS attributes) FROM series)
)
SELECT name, type, unit, key, count(DISTINCT value) AS value_count
FROM attribute
GROUP BY name, type, unit, key
ORDER BY value_count DESC, key
