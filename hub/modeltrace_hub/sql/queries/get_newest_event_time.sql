-- The time of the newest event of a kind.
WITH {logs_in_window}
SELECT max(effective_ns) AS time_ns FROM in_window WHERE event_name = $event AND effective_ns > $since_ns
