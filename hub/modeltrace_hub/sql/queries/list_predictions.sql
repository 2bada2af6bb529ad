-- Prediction log records, newest first, each with its true label if the label has arrived.
WITH {logs_in_window},
prediction AS (
    SELECT
        effective_ns AS time_ns, trace_id, span_id, service_name,
        attributes ->> '/ml.prediction.id' AS prediction_id,
        attributes ->> '/ml.prediction.external_id' AS external_id,
        TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT) AS row_number,
        attributes ->> '/ml.model.name' AS model,
        attributes ->> '/ml.model.version' AS version,
        coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS output,
        json_exists(attributes, '/ml.prediction.label') AS is_label,
        TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE) AS confidence,
        CAST(attributes -> '/ml.prediction.outputs' AS VARCHAR) AS outputs,
        TRY_CAST(attributes ->> '/ml.prediction.interval.low' AS DOUBLE) AS interval_low,
        TRY_CAST(attributes ->> '/ml.prediction.interval.high' AS DOUBLE) AS interval_high,
        TRY_CAST(attributes ->> '/ml.prediction.interval.level' AS DOUBLE) AS interval_level,
        attributes ->> $value_pointer AS value
    FROM in_window
    WHERE event_name = 'ml.prediction' AND effective_ns > $since_ns{conditions}
    ORDER BY effective_ns DESC, row_number
    LIMIT $limit
),
label AS (
    SELECT
        attributes ->> '/ml.prediction.id' AS prediction_id,
        arg_min(
            coalesce(
                attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value',
                attributes ->> '/ml.feedback.class', CAST(attributes -> '/ml.feedback.outputs' AS VARCHAR)
            ),
            time_ns
        ) AS true_label,
        bool_or(
            json_exists(attributes, '/ml.feedback.label') OR json_exists(attributes, '/ml.feedback.value')
        ) AS is_comparable,
        arg_min(trace_id, time_ns) AS feedback_trace_id,
        min(time_ns) AS labelled_ns
    FROM logs
    WHERE event_name = 'ml.feedback' AND time_ns > $since_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
    GROUP BY prediction_id
)
SELECT prediction.*, true_label, is_comparable, feedback_trace_id, labelled_ns
FROM prediction LEFT JOIN label USING (prediction_id)
ORDER BY time_ns DESC, row_number
