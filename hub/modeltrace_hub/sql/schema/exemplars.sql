-- One row per exemplar. Exemplars have a table of their own because they are read by trace far more often than by
-- point. `series_id` and `point_time_ns` identify the data point, which has the resource, scope and buckets.
CREATE TABLE exemplars (
    received_ns BIGINT NOT NULL,
    series_id VARCHAR NOT NULL,
    point_time_ns BIGINT NOT NULL,           -- metric_points.time_ns
    metric_name VARCHAR NOT NULL,            -- copied, so that a list of names needs no join
    service_name VARCHAR NOT NULL,
    service_instance_id VARCHAR NOT NULL,
    trace_id VARCHAR,                        -- NULL: recorded outside a span
    span_id VARCHAR,
    time_ns BIGINT NOT NULL,                 -- when it was measured
    value DOUBLE,
    value_int BIGINT,                        -- the exact value if it was sent as an integer
    filtered_attributes JSON NOT NULL        -- attributes of the measurement that are not attributes of the series
);
