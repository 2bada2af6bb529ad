-- For each series the first point exported at or after a moment, with the one before it: a cumulative point minus the
-- one before is what its interval added.
WITH asked AS (
    SELECT unnest($series_ids) AS series_id, unnest($moments) AS moment_ns
),
-- A sender that got no answer sends again, so the same point may be there twice.
near AS (
    SELECT DISTINCT ON (series_id, time_ns) *
    FROM metric_points
    WHERE
        series_id IN (SELECT series_id FROM asked)
        AND time_ns BETWEEN
            (SELECT min(moment_ns) FROM asked) - $before_ns
            AND (SELECT max(moment_ns) FROM asked) + $after_ns
),
point AS (
    SELECT
        near.*,
        asked.moment_ns,
        lag({
            'time_ns': time_ns, 'start_ns': start_ns, 'value': value, 'count': count, 'sum': sum,
            'bucket_counts': bucket_counts
        }) OVER (PARTITION BY series_id ORDER BY time_ns) AS previous
    FROM near JOIN asked USING (series_id)
)
SELECT *
FROM point
WHERE time_ns >= moment_ns AND time_ns <= moment_ns + $after_ns
QUALIFY row_number() OVER (PARTITION BY series_id ORDER BY time_ns) = 1
ORDER BY name, series_id
