-- The number of rows by table, and the arrival of the oldest row.
SELECT
    (SELECT count(*) FROM spans) AS spans,
    (SELECT count(*) FROM logs) AS logs,
    (SELECT count(*) FROM metric_points) AS metric_points,
    (SELECT count(*) FROM exemplars) AS exemplars,
    least(
        (SELECT min(received_ns) FROM spans),
        (SELECT min(received_ns) FROM logs),
        (SELECT min(received_ns) FROM metric_points)
    ) AS oldest_ns
