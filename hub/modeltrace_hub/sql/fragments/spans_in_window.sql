-- Spans whose `effective_ns` is in a window or close to it. `effective_ns` is the start of the span. If the start was
-- not sent, or is so far ahead of the arrival that the sender's clock is wrong, `effective_ns` is the arrival. Each
-- branch also limits the arrival: rows are stored in the order of arrival, so the database skips most of them.
in_window AS NOT MATERIALIZED (
    SELECT *, start_ns AS effective_ns
    FROM spans
    WHERE
        start_ns BETWEEN greatest($floor_ns - {max_clock_skew_ns}, 1) AND $ceiling_ns + {max_clock_skew_ns}
        AND start_ns <= received_ns + {max_clock_skew_ns}
        AND received_ns >= $floor_ns - 2 * {max_clock_skew_ns}
    UNION ALL
    SELECT *, received_ns AS effective_ns
    FROM spans
    WHERE
        received_ns BETWEEN $floor_ns - {max_clock_skew_ns} AND $ceiling_ns + {max_clock_skew_ns}
        AND NOT (start_ns BETWEEN 1 AND received_ns + {max_clock_skew_ns})
)
