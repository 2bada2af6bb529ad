-- How long a span took; NULL if one of its times was not sent, or its end is before its start.
CASE WHEN start_ns > 0 AND end_ns >= start_ns THEN end_ns - start_ns END
