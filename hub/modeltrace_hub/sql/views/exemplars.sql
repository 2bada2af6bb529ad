-- One row per exemplar.
SELECT
    make_timestamp(time_ns // 1000) AS time,
    time_ns,
    metric_name AS metric,
    series_id,
    trace_id,
    span_id,
    value,
    service_name AS service,
    service_instance_id AS instance,
    CAST(filtered_attributes AS VARCHAR) AS attributes
FROM exemplars
