-- The means of figures over the evaluations of each model in a window. Evaluations with few labels or few predictions are
-- left out. All gauges of one evaluation have the same time.
SELECT
    model, version, hash,
    avg(accuracy) FILTER (labels >= $min_labels) AS accuracy,
    avg(calibration_error) FILTER (labels >= $min_labels) AS calibration_error,
    avg(roc_auc) FILTER (class_labels >= $min_class_labels) AS roc_auc,
    avg(label_coverage) FILTER (predictions >= $min_predictions) AS label_coverage
FROM (
    SELECT
        model, version, hash,
        max(value) FILTER (name = 'ml.evaluation.accuracy') AS accuracy,
        max(value) FILTER (name = 'ml.evaluation.labels') AS labels,
        max(value) FILTER (name = 'ml.evaluation.calibration_error') AS calibration_error,
        max(value) FILTER (name = 'ml.evaluation.roc_auc' AND average = 'macro') AS roc_auc,
        min(value) FILTER (name = 'ml.evaluation.class_labels') AS class_labels,
        max(value) FILTER (name = 'ml.evaluation.label_coverage') AS label_coverage,
        max(value) FILTER (name = 'ml.evaluation.predictions') AS predictions
    FROM (
        SELECT
            attributes ->> '/ml.model.name' AS model,
            coalesce(attributes ->> '/ml.model.version', '') AS version,
            coalesce(attributes ->> '/ml.model.hash', '') AS hash,
            attributes ->> '/ml.evaluation.average' AS average,
            name, value, service_name, service_instance_id, time_ns
        FROM metric_points
        WHERE
            name IN (
                'ml.evaluation.accuracy', 'ml.evaluation.labels', 'ml.evaluation.calibration_error',
                'ml.evaluation.roc_auc', 'ml.evaluation.class_labels', 'ml.evaluation.label_coverage',
                'ml.evaluation.predictions'
            )
            AND time_ns BETWEEN $since_ns AND $until_ns
            AND received_ns >= $since_ns - {max_clock_skew_ns}
            AND type = 'gauge' AND (flags & 1) = 0 AND isfinite(value)
    )
    WHERE model IS NOT NULL
    GROUP BY model, version, hash, service_name, service_instance_id, time_ns
)
GROUP BY model, version, hash
