-- When the newest and the oldest span up to a time started: where the search for traces begins, and where it can end.
SELECT max(start_ns) AS newest_ns, min(start_ns) AS oldest_ns FROM spans WHERE start_ns <= $ceiling_ns
