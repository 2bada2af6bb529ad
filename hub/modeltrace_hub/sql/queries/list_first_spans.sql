-- The start of the first stored span of each service. Spans without a plausible start count by their arrival.
SELECT
    service_name,
    min(CASE WHEN start_ns > 0 AND start_ns <= received_ns + {max_clock_skew_ns} THEN start_ns ELSE received_ns END) AS first_ns
FROM spans
GROUP BY service_name
