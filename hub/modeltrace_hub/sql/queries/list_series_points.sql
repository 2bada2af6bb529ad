-- The points of one metric from `$since_ns` to `$until_ns`, in the order of series and time. Of a cumulative series or a
-- gauge, only the last point of each step and start: the points between them change no value of a step. `$group_pointer`
-- is the JSON pointer to the attribute by which series are grouped.
WITH {points_in_window},
point AS (
    SELECT
        series_id, effective_ns, start_ns, temporality, value, count, sum, bucket_counts, explicit_bounds, scale, zero_count,
        positive_offset, positive_counts, negative_offset, negative_counts, quantiles, quantile_values, service_name,
        service_instance_id, attributes ->> $group_pointer AS group_value, received_ns
    FROM in_window
    WHERE name = $name AND type = $type AND unit = $unit AND (flags & 1) = 0{conditions}
    -- A sender that gets no response sends the same point again.
    QUALIFY row_number() OVER (PARTITION BY series_id, effective_ns ORDER BY received_ns) = 1
),
last_point AS (
    SELECT *
    FROM point
    QUALIFY
        temporality = 'DELTA'
        OR row_number() OVER (
            PARTITION BY series_id, start_ns, (effective_ns - $since_ns) // $step_ns ORDER BY effective_ns DESC
        ) = 1
    ORDER BY effective_ns DESC
    LIMIT $limit
)
SELECT * EXCLUDE (received_ns) FROM last_point ORDER BY series_id, effective_ns
