-- For each series, the points whose export interval contains a time between `first_ns` and `last_ns`. `previous` is the
-- point before; of a cumulative series, the difference between the two is the increase in the interval.
WITH wanted AS (
    SELECT unnest($series_ids) AS series_id, unnest($firsts) AS first_ns, unnest($lasts) AS last_ns
),
-- A sender that gets no response sends again, so a point may be stored twice. Points are made distinct by row number,
-- because copying all their columns takes longer.
near_row AS (
    SELECT min(rowid) AS near_row
    FROM metric_points
    WHERE
        series_id IN (SELECT series_id FROM wanted)
        AND time_ns BETWEEN
            (SELECT min(first_ns) FROM wanted) - $lookback_ns
            AND (SELECT max(last_ns) FROM wanted) + $max_delay_ns
    GROUP BY series_id, time_ns
),
near AS (
    SELECT metric_points.* FROM metric_points JOIN near_row ON metric_points.rowid = near_row
),
point AS (
    SELECT
        near.*,
        wanted.first_ns,
        wanted.last_ns,
        lag({
            'time_ns': time_ns, 'start_ns': start_ns, 'value': value, 'count': count, 'sum': sum,
            'bucket_counts': bucket_counts
        }) OVER (PARTITION BY series_id ORDER BY time_ns) AS previous
    FROM near JOIN wanted USING (series_id)
)
SELECT * EXCLUDE (first_ns, last_ns, resource_id, scope_id)
FROM point {resource_and_scope}
WHERE
    time_ns >= first_ns AND time_ns <= last_ns + $max_delay_ns
    AND (previous IS NULL OR previous.time_ns < greatest(first_ns, last_ns))
ORDER BY name, series_id, time_ns
