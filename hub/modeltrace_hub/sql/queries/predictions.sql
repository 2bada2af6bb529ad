-- Predictions by their audit records, newest first, each with its label if that has come.
WITH {listed_logs},
asked AS (
    SELECT
        listed_ns AS time_ns, trace_id, span_id, service_name,
        attributes ->> '/ml.prediction.id' AS prediction_id,
        TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT) AS row_number,
        attributes ->> '/ml.model.name' AS model,
        attributes ->> '/ml.model.version' AS version,
        coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS answer,
        TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE) AS confidence,
        attributes ->> $value_at AS value
    FROM listed
    WHERE event_name = 'ml.prediction' AND listed_ns > $since_ns{filters}
    ORDER BY listed_ns DESC, row_number
    LIMIT $limit
),
label AS (
    SELECT
        attributes ->> '/ml.prediction.id' AS prediction_id,
        arg_min(coalesce(attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value'), time_ns) AS truth,
        arg_min(trace_id, time_ns) AS feedback_trace_id,
        min(time_ns) AS labelled_ns
    FROM logs
    WHERE event_name = 'ml.feedback' AND time_ns > $since_ns AND received_ns >= $since_ns - {slack_ns}
    GROUP BY prediction_id
)
SELECT asked.*, truth, feedback_trace_id, labelled_ns
FROM asked LEFT JOIN label USING (prediction_id)
ORDER BY time_ns DESC, row_number
