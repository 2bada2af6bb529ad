-- The times of the newest and the oldest span in a window. The search for traces needs no other times.
WITH {spans_in_window}
SELECT max(effective_ns) AS newest_ns, min(effective_ns) AS oldest_ns FROM in_window WHERE effective_ns <= $ceiling_ns
