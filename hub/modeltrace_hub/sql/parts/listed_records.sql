-- Records of `{table}` whose `listed_ns` lies in a window, both ends inside: the time they give, or that of their arrival
-- if the time is so far ahead of it that it cannot be right. Each branch is bounded by time of arrival as well, the order
-- of the rows.
listed AS NOT MATERIALIZED (
    SELECT *, time_ns AS listed_ns
    FROM {table}
    WHERE
        time_ns BETWEEN $since_ns AND $until_ns
        AND time_ns <= received_ns + {slack_ns}
        AND received_ns >= $since_ns - {slack_ns}
    UNION ALL
    SELECT *, received_ns AS listed_ns
    FROM {table}
    WHERE received_ns BETWEEN $since_ns AND $until_ns AND time_ns > received_ns + {slack_ns}
)
