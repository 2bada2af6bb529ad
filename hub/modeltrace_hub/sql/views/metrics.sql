-- One row per data point of a metric.
SELECT
    make_timestamp(time_ns // 1000) AS time,
    time_ns,
    make_timestamp(start_ns // 1000) AS start_time,
    series_id,
    name,
    type,
    unit,
    temporality,
    is_monotonic,
    value,
    count,
    sum,
    min,
    max,
    bucket_counts,
    explicit_bounds,
    service_name AS service,
    service_instance_id AS instance,
    CAST(attributes AS VARCHAR) AS attributes,
    CAST(resource_attributes AS VARCHAR) AS resource,
    scope_name AS scope
FROM metric_points {resource_and_scope}
