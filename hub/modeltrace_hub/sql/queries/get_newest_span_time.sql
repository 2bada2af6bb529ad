-- The start of the newest span in a range of time; NULL without one.
SELECT max(start_ns) AS start_ns
FROM spans
WHERE start_ns BETWEEN $since_ns AND $until_ns AND start_ns <= received_ns + {max_clock_skew_ns}
