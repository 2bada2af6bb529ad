-- When the newest event of a kind happened.
SELECT max(time_ns) AS time_ns FROM logs WHERE event_name = $event AND time_ns > $since_ns AND time_ns <= $until_ns
