-- One row per exemplar. Exemplars have their own table because most queries read them by trace, not by data point.
-- `series_id` and `point_time_ns` identify the data point, whose row has the resource, the scope and the buckets.
CREATE TABLE exemplars (
    received_ns BIGINT NOT NULL,
    series_id VARCHAR NOT NULL,
    point_time_ns BIGINT NOT NULL,           -- `time_ns` of the data point
    metric_name VARCHAR NOT NULL,            -- copied from the data point, so that queries need no join
    service_name VARCHAR NOT NULL,
    service_instance_id VARCHAR NOT NULL,
    trace_id VARCHAR,                        -- NULL: recorded outside a span
    span_id VARCHAR,
    time_ns BIGINT NOT NULL,                 -- when it was measured
    value DOUBLE,
    value_int BIGINT,                        -- the exact value if it was sent as an integer
    filtered_attributes JSON NOT NULL        -- attributes of the measurement that the series does not have
);
