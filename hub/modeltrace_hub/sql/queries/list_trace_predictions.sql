-- The prediction log records of a trace, ordered by row of the request, output or confidence. Outputs that are numbers
-- are ordered by value, and before all others.
SELECT attributes, span_id, time_ns, service_name, service_instance_id
FROM logs
WHERE trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns AND event_name = 'ml.prediction'
QUALIFY row_number() OVER (PARTITION BY {prediction_identity} ORDER BY received_ns) = 1
ORDER BY
    CASE WHEN $sort = 'confidence' THEN TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE) END NULLS LAST,
    CASE WHEN $sort = '-confidence' THEN TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE) END DESC NULLS LAST,
    CASE WHEN $sort = 'output' THEN TRY_CAST(attributes ->> '/ml.prediction.value' AS DOUBLE) END NULLS LAST,
    CASE WHEN $sort = '-output' THEN TRY_CAST(attributes ->> '/ml.prediction.value' AS DOUBLE) END DESC NULLS LAST,
    CASE WHEN $sort = 'output' THEN attributes ->> '/ml.prediction.label' END NULLS LAST,
    CASE WHEN $sort = '-output' THEN attributes ->> '/ml.prediction.label' END DESC NULLS LAST,
    CASE WHEN $sort = '-row' THEN TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT) END DESC NULLS LAST,
    TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT), time_ns
LIMIT $limit OFFSET $offset
