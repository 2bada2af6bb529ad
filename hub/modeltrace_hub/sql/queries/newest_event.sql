-- When the newest event of a kind happened.
WITH {listed_logs}
SELECT max(listed_ns) AS time_ns FROM listed WHERE event_name = $event AND listed_ns > $since_ns
