-- Whole data points, grouped by resource, scope and metric, each with its exemplars.
WITH point AS (
    SELECT *
    FROM metric_points
    WHERE true{conditions}
),
exemplar AS (
    SELECT
        series_id, point_time_ns,
        list({
            'trace_id': trace_id, 'span_id': span_id, 'time_ns': time_ns, 'value': value, 'value_int': value_int,
            'filtered_attributes': CAST(filtered_attributes AS VARCHAR)
        } ORDER BY time_ns) AS exemplars
    FROM exemplars
    WHERE series_id IN (SELECT series_id FROM point)
    GROUP BY series_id, point_time_ns
)
SELECT point.*, resources.* EXCLUDE (resource_id), scopes.* EXCLUDE (scope_id), exemplar.exemplars
FROM point {resource_and_scope}
LEFT JOIN exemplar ON exemplar.series_id = point.series_id AND exemplar.point_time_ns = point.time_ns
ORDER BY resource_id, scope_id, name, description, unit, type, temporality, is_monotonic, time_ns
LIMIT $limit
