-- One row an exemplar: looked up by trace far more often than by point, hence a table of their own.
-- `series_id` and `point_time_ns` lead to the data point, which holds the resource, scope and buckets.
CREATE TABLE exemplars (
    received_ns BIGINT NOT NULL,
    series_id VARCHAR NOT NULL,
    point_time_ns BIGINT NOT NULL,           -- metric_points.time_ns
    metric_name VARCHAR NOT NULL,            -- spares the join where a name is all that is shown
    service_name VARCHAR NOT NULL,
    service_instance_id VARCHAR NOT NULL,
    trace_id VARCHAR,                        -- NULL: recorded outside of a span
    span_id VARCHAR,
    time_ns BIGINT NOT NULL,                 -- when it was measured
    value DOUBLE,
    value_int BIGINT,                        -- the exact value when it was sent as integer
    filtered_attributes JSON NOT NULL        -- attributes of the measurement that the series does not have
);
