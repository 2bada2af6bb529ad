-- The points of one metric from `$since_ns` to `$until_ns`, in the order of series and time. Of a cumulative series or a
-- gauge, only the last point of each step and start: the points between them change no value of a step. A sender that
-- gets no response sends the same point again; the first copy is listed. The points are selected by row number first,
-- because attributes and buckets of all points take much longer to read. `$group_pointer` is the JSON pointer to the
-- attribute by which series are grouped.
WITH point AS (
    SELECT
        *, rowid AS point,
        CASE WHEN time_ns <= received_ns + {max_clock_skew_ns} THEN time_ns ELSE received_ns END AS effective_ns
    FROM metric_points
    WHERE received_ns >= $since_ns - {max_clock_skew_ns}
),
selected AS (
    SELECT arg_max(point, effective_ns::HUGEINT * 9_223_372_036_854_775_808 - received_ns) AS point, max(effective_ns) AS effective_ns
    FROM point
    WHERE
        effective_ns BETWEEN $since_ns AND $until_ns
        AND name = $name AND type = $type AND unit = $unit AND (flags & 1) = 0{conditions}
    GROUP BY
        series_id, start_ns,
        CASE WHEN temporality = 'DELTA' THEN effective_ns ELSE (effective_ns - $since_ns) // $step_ns END
    ORDER BY effective_ns DESC
    LIMIT $limit
)
SELECT
    series_id, effective_ns, start_ns, temporality, value, count, sum, bucket_counts, explicit_bounds, scale, zero_count,
    positive_offset, positive_counts, negative_offset, negative_counts, quantiles, quantile_values, service_name,
    service_instance_id, attributes ->> $group_pointer AS group_value
FROM metric_points JOIN selected ON metric_points.rowid = selected.point
ORDER BY series_id, effective_ns
