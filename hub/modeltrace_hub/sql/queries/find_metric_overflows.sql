-- The metrics with the series that the SDK uses for all attribute sets above its limit, by service.
SELECT service_name, name, count(DISTINCT series_id)::DOUBLE AS series_count
FROM metric_points
WHERE
    time_ns BETWEEN $since_ns AND $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
    AND attributes ->> '/otel.metric.overflow' = 'true'
GROUP BY service_name, name
ORDER BY service_name, name
