-- The newest number of items that the sidecars of each service keep on disk, by signal.
SELECT service_name, coalesce(attributes ->> '/modeltrace.signal', '') AS signal, sum(value) AS items
FROM (
    SELECT service_name, series_id, any_value(attributes) AS attributes, arg_max(value, time_ns) AS value
    FROM metric_points
    WHERE
        name = 'modeltrace.sidecar.spooled'
        AND time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
        AND (flags & 1) = 0 AND isfinite(value)
    GROUP BY service_name, series_id
)
GROUP BY ALL
HAVING items > 0
ORDER BY ALL
