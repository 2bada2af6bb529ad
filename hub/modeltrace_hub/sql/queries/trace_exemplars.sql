-- The exemplars of one trace, each with the series that it stands on. The point that carried it may be gone already.
WITH mine AS (
    SELECT * FROM exemplars WHERE trace_id = $trace_id ORDER BY time_ns LIMIT $limit
),
points AS (
    SELECT DISTINCT ON (series_id, time_ns) series_id, time_ns, unit, attributes
    FROM metric_points
    WHERE
        time_ns BETWEEN (SELECT min(point_time_ns) FROM mine) AND (SELECT max(point_time_ns) FROM mine)
        AND series_id IN (SELECT series_id FROM mine)
)
SELECT
    mine.metric_name, points.unit, mine.value, mine.value_int, mine.trace_id, mine.span_id, mine.time_ns,
    points.attributes, mine.filtered_attributes, mine.series_id, mine.point_time_ns, mine.service_name,
    mine.service_instance_id
FROM mine
LEFT JOIN points ON points.series_id = mine.series_id AND points.time_ns = mine.point_time_ns
ORDER BY mine.metric_name, mine.time_ns
