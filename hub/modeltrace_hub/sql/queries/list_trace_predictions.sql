-- The prediction log records of a trace, by row of the request.
SELECT attributes, span_id, time_ns, service_name, service_instance_id
FROM logs
WHERE trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns AND event_name = 'ml.prediction'
QUALIFY row_number() OVER (PARTITION BY {prediction_identity} ORDER BY received_ns) = 1
ORDER BY TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT), time_ns
LIMIT $limit OFFSET $offset
