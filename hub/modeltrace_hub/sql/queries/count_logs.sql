-- The number of log records by step of time, severity, service, event and scope. A severity has four numbers (INFO: 9 to
-- 12); 0 is a record without severity.
WITH {logs_in_window},
counted AS (
    SELECT
        (effective_ns - $since_ns - 1) // $step_ns AS step,
        CASE WHEN severity_number BETWEEN 1 AND 24 THEN (severity_number + 3) // 4 ELSE 0 END AS severity,
        service_name, event_name, scope_id, count(*) AS record_count
    FROM in_window
    WHERE effective_ns > $since_ns{conditions}
    GROUP BY ALL
)
SELECT step, severity, service_name, event_name, scope_name, sum(record_count)::BIGINT AS record_count
FROM counted JOIN scopes USING (scope_id)
GROUP BY ALL
