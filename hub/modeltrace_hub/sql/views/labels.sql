-- One row per true label that arrived, with its prediction.
SELECT
    make_timestamp(time_ns // 1000) AS time,
    time_ns,
    attributes ->> '/ml.prediction.id' AS prediction_id,
    attributes ->> '/ml.prediction.trace_id' AS trace_id,
    trace_id AS feedback_trace_id,
    attributes ->> '/ml.model.name' AS model,
    attributes ->> '/ml.model.version' AS version,
    coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS output,
    coalesce(
        attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value', attributes ->> '/ml.feedback.class',
        CAST(attributes -> '/ml.feedback.outputs' AS VARCHAR)
    ) AS true_label,
    service_name AS service
FROM logs
WHERE event_name = 'ml.feedback'
