-- What counters and histograms added in a window, summed over every series with the same attributes: workers, replicas.
-- `$since_ns` is outside of it, `$until_ns` inside; it is cut into steps of `$step_ns`. An interval counts in the step
-- in which it ends. `place` is the bucket of a histogram, NULL for a counter. `$instances`: of these processes alone.
counter AS (
    SELECT
        series_id, name, attributes, service_name, service_instance_id, temporality, start_ns, time_ns, explicit_bounds,
        unnest(CASE WHEN type = 'sum' THEN [value] ELSE bucket_counts END) AS value,
        unnest(CASE WHEN type = 'sum' THEN [NULL] ELSE range(1, 1 + len(bucket_counts)) END) AS place,
        CASE WHEN time_ns <= $since_ns THEN -1 ELSE (time_ns - $since_ns - 1) // $step_ns END AS step
    FROM metric_points
    WHERE
        name IN (SELECT unnest($counters))
        AND time_ns BETWEEN $since_ns - $lookback_ns AND $until_ns
        AND received_ns >= $since_ns - $lookback_ns - {slack_ns}
        AND ((type = 'sum' AND is_monotonic) OR type = 'histogram')
        AND (flags & 1) = 0
        AND ($instances IS NULL OR list_contains($instances, service_instance_id))
),
-- A series may be younger than its start says: a label that is met for the first time. It was 0 as long as its sender
-- exported other series without it, half a second or more before: the points of one export are not of one moment.
heard AS (
    SELECT service_name, service_instance_id, min(time_ns) AS first_ns
    FROM metric_points
    WHERE
        time_ns BETWEEN $since_ns - $lookback_ns AND $until_ns
        AND received_ns >= $since_ns - $lookback_ns - {slack_ns}
    GROUP BY service_name, service_instance_id
),
-- Totals since a start: a reset is another start. One row a step, however many points it has.
total AS (
    SELECT
        series_id, place, start_ns, step, any_value(name) AS name, any_value(attributes) AS attributes,
        any_value(explicit_bounds) AS bounds, max(value) AS value, min(value) AS lowest, min(time_ns) AS first_ns,
        any_value(service_name) AS service_name, any_value(service_instance_id) AS service_instance_id
    FROM counter
    WHERE temporality = 'CUMULATIVE' AND start_ns > 0 AND isfinite(value)
    GROUP BY series_id, place, start_ns, step
),
total_added AS (
    SELECT
        name, attributes, place, bounds, step,
        value - coalesce(
            lag(value) OVER (PARTITION BY series_id, place, start_ns ORDER BY step),
            -- Of a series that is older than all that is known of it, only what came after its first point is known.
            CASE WHEN start_ns >= $since_ns OR total.first_ns > heard.first_ns + 500_000_000 THEN 0 ELSE lowest END
        ) AS added
    FROM total JOIN heard USING (service_name, service_instance_id)
),
-- Totals of senders that say no start: a reset is a total that falls. And differences, of which each point is one.
-- The same point may be there twice: a sender that got no answer sends again.
stepwise AS (
    SELECT
        name, attributes, place, explicit_bounds AS bounds, step, temporality, value, counter.time_ns, heard.first_ns,
        lag(value) OVER series AS before, lag(counter.time_ns) OVER series AS before_ns
    FROM counter JOIN heard USING (service_name, service_instance_id)
    WHERE (temporality <> 'CUMULATIVE' OR start_ns IS NULL OR start_ns = 0) AND isfinite(value)
    WINDOW series AS (PARTITION BY series_id, place ORDER BY counter.time_ns)
),
stepwise_added AS (
    SELECT
        name, attributes, place, bounds, step,
        CASE
            WHEN time_ns = before_ns THEN 0
            WHEN temporality <> 'CUMULATIVE' THEN value
            WHEN before IS NULL THEN CASE WHEN time_ns > first_ns + 500_000_000 THEN value ELSE 0 END
            WHEN value < before THEN value
            ELSE value - before
        END AS added
    FROM stepwise
),
increment AS (
    -- A counter adds nothing negative, and a count above 2^64 is none; a sum of a feature's values may be.
    SELECT name, attributes, place, any_value(bounds) AS bounds, step, sum(added) AS added
    FROM (FROM total_added UNION ALL FROM stepwise_added)
    WHERE
        step >= 0
        AND added BETWEEN 0 AND CASE name WHEN 'ml.feature.sum' THEN 1e305 ELSE 1.8446744073709552e19 END
    GROUP BY name, attributes, place, step
)
