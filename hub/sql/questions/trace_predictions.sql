-- The audit records of one trace, in the order of the rows of the request.
SELECT attributes, span_id, time_ns, service_name, service_instance_id
FROM logs
WHERE trace_id = $trace_id AND event_name = 'ml.prediction'
ORDER BY TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT), time_ns
LIMIT $limit OFFSET $offset
