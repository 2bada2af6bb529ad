-- True labels in the order of arrival, newest first, each with its prediction if the prediction is still stored. The true
-- class of a row in a cluster, and labels of several outputs as JSON, cannot equal an output (`is_comparable`).
WITH {logs_in_window},
label AS (
    SELECT
        effective_ns AS labelled_ns, trace_id AS feedback_trace_id, service_name,
        attributes ->> '/ml.prediction.id' AS prediction_id,
        attributes ->> '/ml.prediction.trace_id' AS trace_id,
        attributes ->> '/ml.model.name' AS model,
        attributes ->> '/ml.model.version' AS version,
        coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS output,
        coalesce(
            attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value', attributes ->> '/ml.feedback.class',
            CAST(attributes -> '/ml.feedback.outputs' AS VARCHAR)
        ) AS true_label,
        json_exists(attributes, '/ml.feedback.label') AS is_label,
        json_exists(attributes, '/ml.feedback.label') OR json_exists(attributes, '/ml.feedback.value') AS is_comparable
    FROM in_window
    WHERE event_name = 'ml.feedback' AND effective_ns > $since_ns{conditions}
    ORDER BY effective_ns DESC
    LIMIT $limit
),
prediction AS (
    SELECT
        attributes ->> '/ml.prediction.id' AS prediction_id,
        any_value(time_ns) AS time_ns,
        any_value(span_id) AS span_id,
        any_value(attributes ->> '/ml.prediction.external_id') AS external_id,
        any_value(TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT)) AS row_number,
        any_value(TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE)) AS confidence
    FROM logs
    WHERE event_name = 'ml.prediction' AND trace_id IN (SELECT trace_id FROM label)
    GROUP BY prediction_id
)
SELECT label.*, time_ns, span_id, external_id, row_number, confidence
FROM label LEFT JOIN prediction USING (prediction_id)
ORDER BY labelled_ns DESC
