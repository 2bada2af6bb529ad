-- One row per data point. One table has the points of all five types, so that a series is found by its ID alone. The
-- columns that a type does not have are NULL, which takes almost no space.
CREATE TABLE metric_points (
    received_ns BIGINT NOT NULL,
    series_id VARCHAR NOT NULL,              -- a hash: see hub/modeltrace_hub/decode/metrics.py
    name VARCHAR NOT NULL,
    description VARCHAR NOT NULL,
    unit VARCHAR NOT NULL,
    metadata JSON NOT NULL,
    type VARCHAR NOT NULL,                   -- gauge, sum, histogram, exponential_histogram or summary
    temporality VARCHAR,                     -- DELTA, CUMULATIVE, UNSPECIFIED or a number; NULL for gauge, summary
    is_monotonic BOOLEAN,                    -- sum only
    start_ns BIGINT,                         -- start of the interval; for CUMULATIVE, start of the series
    time_ns BIGINT NOT NULL,                 -- end of the interval
    flags UINTEGER NOT NULL,                 -- bit 0: the point has no value
    attributes JSON NOT NULL,                -- sorted by key, so that equal attributes are equal text
    value DOUBLE,                            -- gauge, sum: the value, sent as double or integer
    value_int BIGINT,                        -- gauge, sum: the exact value if it was sent as an integer
    count UBIGINT,                           -- histogram, exponential_histogram, summary
    sum DOUBLE,
    min DOUBLE,
    max DOUBLE,
    bucket_counts UBIGINT[],                 -- histogram: one count more than there are bounds
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
    resource_id VARCHAR NOT NULL,
    scope_id VARCHAR NOT NULL
);
