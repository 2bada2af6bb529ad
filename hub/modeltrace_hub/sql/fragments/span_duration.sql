-- The duration of a span; NULL if a time was not sent, or the end is before the start.
CASE WHEN start_ns > 0 AND end_ns >= start_ns THEN end_ns - start_ns END
