-- Violations of the feature schema, of accepted and rejected requests, newest first.
WITH {logs_in_window}
SELECT
    effective_ns AS time_ns, trace_id, span_id, service_name,
    attributes ->> '/ml.model.name' AS model,
    attributes ->> '/ml.model.version' AS version,
    attributes ->> '/ml.feature.name' AS feature,
    attributes ->> '/ml.data.violation.reason' AS reason,
    TRY_CAST(attributes ->> '/ml.data.violation.rows' AS BIGINT) AS row_count
FROM in_window
WHERE event_name = 'ml.data.violation' AND effective_ns > $since_ns{conditions}
ORDER BY effective_ns DESC
LIMIT $limit
