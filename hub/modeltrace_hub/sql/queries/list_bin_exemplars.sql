-- The traces that are exemplars of the metric points of a bin, newest first. This query is used if the predictions in a
-- bin cannot be listed, because their values are private or the bounds of the bin are unknown.
WITH series AS (
    SELECT DISTINCT series_id
    FROM metric_points
    WHERE
        name = 'ml.feature.observations'
        AND time_ns >= $since_ns AND time_ns - $lookback_ns <= $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
        AND attributes ->> '/ml.model.name' = $model
        AND ($version IS NULL OR attributes ->> '/ml.model.version' = $version)
        AND attributes ->> '/ml.feature.name' = $feature
        AND attributes ->> '/ml.feature.bin' = $bin
)
SELECT trace_id, any_value(span_id) AS span_id, max(time_ns) AS time_ns, any_value(service_name) AS service_name
FROM exemplars
WHERE
    series_id IN (FROM series) AND trace_id IS NOT NULL AND time_ns > $since_ns AND time_ns <= $until_ns
    AND received_ns >= $since_ns - {max_clock_skew_ns}
GROUP BY trace_id
ORDER BY max(exemplars.time_ns) DESC
LIMIT $limit
