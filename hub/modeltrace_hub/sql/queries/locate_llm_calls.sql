-- When the records of the traces with LLM calls arrived, and the latest time that a call can have. The values are NULL
-- if there is no such trace in the range of time.
SELECT
    min(first_received_ns) AS first_received_ns,
    max(received_ns) AS last_received_ns,
    max(least(greatest(received_ns, coalesce(timed_start_ns + duration_ns, 0)), received_ns + {max_clock_skew_ns})) AS newest_ns
FROM traces
WHERE llm_call_count > 0 AND start_ns <= $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
