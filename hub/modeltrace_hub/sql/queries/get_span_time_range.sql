-- The times of the newest and oldest span up to a time: the bounds of the search for traces.
WITH {spans_in_window}
SELECT max(effective_ns) AS newest_ns, min(effective_ns) AS oldest_ns FROM in_window WHERE effective_ns <= $ceiling_ns
