-- The number of spans from `$since_ns` until before `$until_ns`.
SELECT count(*) AS span_count
FROM spans
WHERE start_ns >= $since_ns AND start_ns < $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
