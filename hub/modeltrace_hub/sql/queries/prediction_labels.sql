-- Labels by the time of their arrival, newest first, each with its prediction if that is still here.
WITH {listed_logs},
asked AS (
    SELECT
        listed_ns AS labelled_ns, trace_id AS feedback_trace_id, service_name,
        attributes ->> '/ml.prediction.id' AS prediction_id,
        attributes ->> '/ml.prediction.trace_id' AS trace_id,
        attributes ->> '/ml.model.name' AS model,
        attributes ->> '/ml.model.version' AS version,
        coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS answer,
        coalesce(attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value') AS truth
    FROM listed
    WHERE event_name = 'ml.feedback' AND listed_ns > $since_ns{filters}
    ORDER BY listed_ns DESC
    LIMIT $limit
),
predicted AS (
    SELECT
        attributes ->> '/ml.prediction.id' AS prediction_id,
        any_value(time_ns) AS time_ns,
        any_value(span_id) AS span_id,
        any_value(TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT)) AS row_number,
        any_value(TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE)) AS confidence
    FROM logs
    WHERE event_name = 'ml.prediction' AND trace_id IN (SELECT trace_id FROM asked)
    GROUP BY prediction_id
)
SELECT asked.*, time_ns, span_id, row_number, confidence
FROM asked LEFT JOIN predicted USING (prediction_id)
ORDER BY labelled_ns DESC
