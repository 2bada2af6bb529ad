-- The true labels of the predictions of one trace, and those that the requests of this trace brought for others.
SELECT DISTINCT
    time_ns, trace_id AS feedback_trace_id, span_id AS feedback_span_id,
    attributes ->> '/ml.prediction.id' AS prediction_id,
    attributes ->> '/ml.prediction.trace_id' AS trace_id,
    coalesce(attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value') AS truth,
    coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS answer,
    json_exists(attributes, '/ml.feedback.label') AS classified
FROM logs
WHERE event_name = 'ml.feedback' AND ($trace_id = trace_id OR $trace_id = attributes ->> '/ml.prediction.trace_id')
ORDER BY time_ns
LIMIT $limit
