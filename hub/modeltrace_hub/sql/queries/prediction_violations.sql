-- Requests that broke the feature schema, answered or refused, by the records that say how, newest first.
WITH {listed_logs}
SELECT
    listed_ns AS time_ns, trace_id, span_id, service_name,
    attributes ->> '/ml.model.name' AS model,
    attributes ->> '/ml.model.version' AS version,
    attributes ->> '/ml.feature.name' AS feature,
    attributes ->> '/ml.data.violation.reason' AS reason,
    TRY_CAST(attributes ->> '/ml.data.violation.rows' AS BIGINT) AS row_count
FROM listed
WHERE event_name = 'ml.data.violation' AND listed_ns > $since_ns{filters}
ORDER BY listed_ns DESC
LIMIT $limit
