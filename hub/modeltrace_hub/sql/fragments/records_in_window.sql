-- Records of `{table}` whose `effective_ns` is in a window (both ends inclusive). `effective_ns` is the time of the
-- record. If this time is far ahead of the arrival, the sender's clock is wrong, and `effective_ns` is the arrival.
-- Each branch also limits the arrival: rows are stored in the order of arrival, so the database skips most of them.
in_window AS NOT MATERIALIZED (
    SELECT *, time_ns AS effective_ns
    FROM {table}
    WHERE
        time_ns BETWEEN $since_ns AND $until_ns
        AND time_ns <= received_ns + {max_clock_skew_ns}
        AND received_ns >= $since_ns - {max_clock_skew_ns}
    UNION ALL
    SELECT *, received_ns AS effective_ns
    FROM {table}
    WHERE received_ns BETWEEN $since_ns AND $until_ns AND time_ns > received_ns + {max_clock_skew_ns}
)
