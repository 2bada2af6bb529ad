-- The number of traces, and of those with an error, by step of time and by duration. Row 6 * k + i has the durations from
-- m * 10^k nanoseconds, where m is item i of 1, 1.5, 2, 3, 5, 7.
SELECT
    (start_ns - $since_ns) // $step_ns AS step,
    6 * digits + (duration_ns >= (3 * decade + 1) // 2)::INTEGER + (duration_ns >= 2 * decade)::INTEGER
    + (duration_ns >= 3 * decade)::INTEGER + (duration_ns >= 5 * decade)::INTEGER + (duration_ns >= 7 * decade)::INTEGER
    AS row,
    count(*) AS trace_count,
    count(*) FILTER (error_count > 0) AS error_count
FROM (
    SELECT *, len(duration_ns::VARCHAR) - 1 AS digits, (10 ** digits)::BIGINT AS decade
    FROM traces
    WHERE
        span_count > 0 AND duration_ns IS NOT NULL AND start_ns >= $since_ns
        AND start_ns < $until_ns{conditions}
)
GROUP BY ALL
