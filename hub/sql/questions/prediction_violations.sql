-- Requests that broke the feature schema, answered or refused, by the records that say how, newest first.
SELECT
    time_ns, trace_id, span_id, service_name,
    attributes ->> '/ml.model.name' AS model,
    attributes ->> '/ml.model.version' AS version,
    attributes ->> '/ml.feature.name' AS feature,
    attributes ->> '/ml.data.violation.reason' AS reason,
    TRY_CAST(attributes ->> '/ml.data.violation.rows' AS BIGINT) AS row_count
FROM logs
WHERE event_name = 'ml.data.violation' AND time_ns > $since_ns AND time_ns <= $until_ns{filters}
ORDER BY time_ns DESC
LIMIT $limit
