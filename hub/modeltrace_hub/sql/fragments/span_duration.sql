-- The duration of a span; NULL if its start or end was not sent, or if it ends before it starts.
CASE WHEN start_ns > 0 AND end_ns >= start_ns THEN end_ns - start_ns END
