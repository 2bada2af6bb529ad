-- The exemplars of a trace, each with unit and attributes of its series. The point itself may already be deleted.
WITH exemplar AS (
    SELECT * FROM exemplars WHERE trace_id = $trace_id ORDER BY time_ns LIMIT $limit
),
points AS (
    SELECT DISTINCT ON (series_id, time_ns) series_id, time_ns, unit, attributes
    FROM metric_points
    WHERE
        time_ns BETWEEN (SELECT min(point_time_ns) FROM exemplar) AND (SELECT max(point_time_ns) FROM exemplar)
        AND series_id IN (SELECT series_id FROM exemplar)
)
SELECT
    exemplar.metric_name, points.unit, exemplar.value, exemplar.value_int, exemplar.trace_id, exemplar.span_id, exemplar.time_ns,
    points.attributes, exemplar.filtered_attributes, exemplar.series_id, exemplar.point_time_ns, exemplar.service_name,
    exemplar.service_instance_id
FROM exemplar
LEFT JOIN points ON points.series_id = exemplar.series_id AND points.time_ns = exemplar.point_time_ns
ORDER BY exemplar.metric_name, exemplar.time_ns
