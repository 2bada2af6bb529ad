-- The true labels of the predictions of a trace, and the labels that the requests of this trace sent for other
-- predictions.
SELECT DISTINCT
    time_ns, trace_id AS feedback_trace_id, span_id AS feedback_span_id,
    attributes ->> '/ml.prediction.id' AS prediction_id,
    attributes ->> '/ml.prediction.trace_id' AS trace_id,
    coalesce(
        attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value', attributes ->> '/ml.feedback.class',
        CAST(attributes -> '/ml.feedback.outputs' AS VARCHAR)
    ) AS true_label,
    coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS output,
    json_exists(attributes, '/ml.feedback.label') AS is_label,
    json_exists(attributes, '/ml.feedback.label') OR json_exists(attributes, '/ml.feedback.value') AS is_comparable
FROM logs
WHERE
    event_name = 'ml.feedback'
    AND (
        $trace_id = trace_id
        OR (contains(attributes::VARCHAR, $trace_id) AND $trace_id = attributes ->> '/ml.prediction.trace_id')
    )
ORDER BY time_ns
LIMIT $limit
