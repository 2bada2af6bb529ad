-- When the newest and the oldest span up to a time started: where the search for traces begins, and where it can end.
WITH {listed_spans}
SELECT max(listed_ns) AS newest_ns, min(listed_ns) AS oldest_ns FROM listed WHERE listed_ns <= $ceiling_ns
