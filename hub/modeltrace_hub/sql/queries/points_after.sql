-- For each series the points whose intervals hold the time between a first and a last moment, each with the one before
-- it: a cumulative point minus the one before is what its interval added.
WITH asked AS (
    SELECT unnest($series_ids) AS series_id, unnest($firsts) AS first_ns, unnest($lasts) AS last_ns
),
-- A sender that got no answer sends again, so the same point may be there twice.
near AS (
    SELECT DISTINCT ON (series_id, time_ns) *
    FROM metric_points
    WHERE
        series_id IN (SELECT series_id FROM asked)
        AND time_ns BETWEEN
            (SELECT min(first_ns) FROM asked) - $before_ns
            AND (SELECT max(last_ns) FROM asked) + $after_ns
),
point AS (
    SELECT
        near.*,
        asked.first_ns,
        asked.last_ns,
        lag({
            'time_ns': time_ns, 'start_ns': start_ns, 'value': value, 'count': count, 'sum': sum,
            'bucket_counts': bucket_counts
        }) OVER (PARTITION BY series_id ORDER BY time_ns) AS previous
    FROM near JOIN asked USING (series_id)
)
SELECT * EXCLUDE (first_ns, last_ns)
FROM point
WHERE
    time_ns >= first_ns AND time_ns <= last_ns + $after_ns
    AND (previous IS NULL OR previous.time_ns < greatest(first_ns, last_ns))
ORDER BY name, series_id, time_ns
