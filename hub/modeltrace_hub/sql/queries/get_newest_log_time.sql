-- The time of the newest log record in a time range.
WITH {logs_in_window}
SELECT max(effective_ns) AS time_ns FROM in_window
