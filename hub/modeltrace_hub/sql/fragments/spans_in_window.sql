-- Spans whose `effective_ns` is in a window or close to it. `effective_ns` is the start of the span by its sender's
-- clock, or its arrival if the sender gave no start, or one so far ahead of the arrival that the clock must be wrong.
-- Each branch also bounds the arrival time: rows are stored in that order, so few rows are read even if some clocks are
-- wrong.
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
