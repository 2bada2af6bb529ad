-- The increase of each counter and histogram in a window. Series with the same attributes are summed: each worker and
-- replica has its own. The window is from `$since_ns` (exclusive) to `$until_ns` (inclusive), in steps of `$step_ns`.
-- An export interval counts in the step in which it ends. `bucket` is the bucket number of a histogram; for a counter
-- it is NULL. With `$with_sums`, the sum of a histogram is bucket 0. `$sources` selects service instances, as the name of the service, U+001F and the instance ID;
-- `$counted_service` selects a service. NULL selects all.
counter AS (
    SELECT
        series_id, name, attributes, service_name, service_instance_id, temporality, start_ns, time_ns, explicit_bounds,
        unnest(
            CASE
                WHEN type = 'sum' THEN [value]
                WHEN $with_sums THEN list_concat([sum], bucket_counts::DOUBLE[])
                ELSE bucket_counts
            END
        ) AS value,
        unnest(
            CASE
                WHEN type = 'sum' THEN [NULL]
                WHEN $with_sums THEN range(0, 1 + len(bucket_counts))
                ELSE range(1, 1 + len(bucket_counts))
            END
        ) AS bucket,
        CASE WHEN time_ns <= $since_ns THEN -1 ELSE (time_ns - $since_ns - 1) // $step_ns END AS step
    FROM metric_points
    WHERE
        name IN (SELECT unnest($counters))
        AND time_ns BETWEEN $since_ns - $lookback_ns AND $until_ns
        AND received_ns >= $since_ns - $lookback_ns - {max_clock_skew_ns}
        AND ((type = 'sum' AND is_monotonic) OR type = 'histogram')
        -- If bit 0 of the flags is set, the point has no value.
        AND (flags & 1) = 0
        AND ($sources IS NULL OR list_contains($sources, service_name || chr(31) || service_instance_id))
        AND ($counted_service IS NULL OR service_name = $counted_service)
),
-- The time of the first export of each service instance. A series may appear later, for example the series of a label
-- that is predicted for the first time. Such a series began at 0, so its whole first value is an increase. A series is
-- late if its first point is more than half a second after the first export; within one export, times differ by less.
first_export AS (
    SELECT service_name, service_instance_id, min(time_ns) AS first_ns
    FROM metric_points
    WHERE
        time_ns BETWEEN $since_ns - $lookback_ns AND $until_ns
        AND received_ns >= $since_ns - $lookback_ns - {max_clock_skew_ns}
    GROUP BY service_name, service_instance_id
),
-- Cumulative counters with a start time, one row per step. After a reset, the start time is another one.
total AS (
    SELECT
        series_id, bucket, start_ns, step, any_value(name) AS name, any_value(attributes) AS attributes,
        any_value(explicit_bounds) AS bounds, max(value) AS value, min(value) AS min_value, min(time_ns) AS first_ns,
        any_value(service_name) AS service_name, any_value(service_instance_id) AS service_instance_id
    FROM counter
    WHERE temporality = 'CUMULATIVE' AND start_ns > 0 AND isfinite(value)
    GROUP BY series_id, bucket, start_ns, step
),
total_added AS (
    SELECT
        series_id, name, attributes, bucket, bounds, step,
        value - coalesce(
            lag(value) OVER (PARTITION BY series_id, bucket, start_ns ORDER BY step),
            -- The first step of a series has no previous value. If the series began before the known data, count from
            -- its first known point.
            CASE
                WHEN start_ns >= $since_ns OR total.first_ns > first_export.first_ns + 500_000_000 THEN 0
                ELSE min_value
            END
        ) AS added
    FROM total JOIN first_export USING (service_name, service_instance_id)
),
-- Cumulative counters without a start time, where a smaller value means a reset, and delta counters, where each point
-- is an increase. A sender that gets no response sends again, so a point may be stored twice.
stepwise AS (
    SELECT
        series_id, name, attributes, bucket, explicit_bounds AS bounds, step, temporality, value, counter.time_ns,
        first_export.first_ns, lag(value) OVER series AS previous, lag(counter.time_ns) OVER series AS previous_ns
    FROM counter JOIN first_export USING (service_name, service_instance_id)
    WHERE (temporality <> 'CUMULATIVE' OR start_ns IS NULL OR start_ns = 0) AND isfinite(value)
    WINDOW series AS (PARTITION BY series_id, bucket ORDER BY counter.time_ns)
),
stepwise_added AS (
    SELECT
        series_id, name, attributes, bucket, bounds, step,
        CASE
            WHEN time_ns = previous_ns THEN 0
            WHEN temporality <> 'CUMULATIVE' THEN value
            WHEN previous IS NULL THEN CASE WHEN time_ns > first_ns + 500_000_000 THEN value ELSE 0 END
            WHEN value < previous THEN value
            ELSE value - previous
        END AS added
    FROM stepwise
),
-- The increase of each series. Each process has a series of its own.
series_increase AS (
    -- Invalid increases are dropped: negative ones, counts above 2^64, and sums of values above 1e305.
    SELECT series_id, name, attributes, bucket, any_value(bounds) AS bounds, step, sum(added) AS added
    FROM (FROM total_added UNION ALL FROM stepwise_added)
    WHERE
        step >= 0
        AND added BETWEEN 0 AND CASE name WHEN 'ml.feature.sum' THEN 1e305 ELSE 1.8446744073709552e19 END
    GROUP BY series_id, name, attributes, bucket, step
),
increase AS (
    SELECT name, attributes, bucket, any_value(bounds) AS bounds, step, sum(added) AS added
    FROM series_increase
    GROUP BY name, attributes, bucket, step
)
