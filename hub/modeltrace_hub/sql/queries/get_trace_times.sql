-- The first and the last start of the traces with a duration that meet the conditions; NULL without such traces.
SELECT min(start_ns) AS first_ns, max(start_ns) AS last_ns
FROM traces
WHERE span_count > 0 AND duration_ns IS NOT NULL{conditions}
