-- One row per data point. All five types are in one table: a series is found by its ID without its type. The columns
-- that a type does not have are NULL, which takes almost no space.
CREATE TABLE metric_points (
    received_ns BIGINT NOT NULL,
    series_id VARCHAR NOT NULL,              -- 64-bit hash in hex of the identity of the series (hub/modeltrace_hub/decode/metrics.py)
    name VARCHAR NOT NULL,
    description VARCHAR NOT NULL,
    unit VARCHAR NOT NULL,
    metadata JSON NOT NULL,
    type VARCHAR NOT NULL,                   -- gauge sum histogram exponential_histogram summary
    temporality VARCHAR,                     -- UNSPECIFIED DELTA CUMULATIVE; else its number; NULL for gauge and summary
    is_monotonic BOOLEAN,                    -- sum only
    start_ns BIGINT,                         -- start of the interval; CUMULATIVE: start of the series
    time_ns BIGINT NOT NULL,                 -- end of the interval
    flags UINTEGER NOT NULL,                 -- bit 0: no recorded value
    attributes JSON NOT NULL,                -- keys sorted, so that equal sets are equal text
    value DOUBLE,                            -- gauge, sum: the value, sent as double or integer
    value_int BIGINT,                        -- gauge, sum: the exact value if it was sent as an integer
    count UBIGINT,                           -- histogram, exponential_histogram, summary
    sum DOUBLE,
    min DOUBLE,
    max DOUBLE,
    bucket_counts UBIGINT[],                 -- histogram: one more than bounds
    explicit_bounds DOUBLE[],                -- histogram: upper bounds, inclusive
    scale INTEGER,                           -- exponential_histogram: base = 2 ** (2 ** -scale)
    zero_count UBIGINT,
    zero_threshold DOUBLE,
    positive_offset INTEGER,
    positive_counts UBIGINT[],
    negative_offset INTEGER,
    negative_counts UBIGINT[],
    quantiles DOUBLE[],                      -- summary
    quantile_values DOUBLE[],
    service_name VARCHAR NOT NULL,
    service_instance_id VARCHAR NOT NULL,
    resource_attributes JSON NOT NULL,
    resource_dropped_attributes_count UINTEGER NOT NULL,
    resource_entity_refs JSON NOT NULL,
    resource_schema_url VARCHAR NOT NULL,
    scope_name VARCHAR NOT NULL,             -- the meter
    scope_version VARCHAR NOT NULL,
    scope_attributes JSON NOT NULL,
    scope_dropped_attributes_count UINTEGER NOT NULL,
    scope_schema_url VARCHAR NOT NULL
);
