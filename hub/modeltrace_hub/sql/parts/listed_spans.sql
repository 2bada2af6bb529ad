-- Spans whose `listed_ns` lies around a window. It is when the span started by its sender's clock; when it arrived if the
-- sender gave no start, or one so far ahead of the arrival that it cannot be right. Each branch is bounded by time of
-- arrival as well: rows lie in that order, so however wrong the clocks of some senders are, few rows are read.
listed AS NOT MATERIALIZED (
    SELECT *, start_ns AS listed_ns
    FROM spans
    WHERE
        start_ns BETWEEN greatest($floor_ns - {slack_ns}, 1) AND $ceiling_ns + {slack_ns}
        AND start_ns <= received_ns + {slack_ns}
        AND received_ns >= $floor_ns - 2 * {slack_ns}
    UNION ALL
    SELECT *, received_ns AS listed_ns
    FROM spans
    WHERE
        received_ns BETWEEN $floor_ns - {slack_ns} AND $ceiling_ns + {slack_ns}
        AND NOT (start_ns BETWEEN 1 AND received_ns + {slack_ns})
)
