-- The means of accuracy and label coverage over the evaluations of each model in a window. Evaluations with few labels or
-- few predictions are left out. All gauges of one evaluation have the same time.
SELECT
    model, version, hash,
    avg(accuracy) FILTER (labels >= $min_labels) AS accuracy,
    avg(label_coverage) FILTER (predictions >= $min_predictions) AS label_coverage
FROM (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        coalesce(attributes ->> '/ml.model.hash', '') AS hash,
        max(value) FILTER (name = 'ml.evaluation.accuracy') AS accuracy,
        max(value) FILTER (name = 'ml.evaluation.labels') AS labels,
        max(value) FILTER (name = 'ml.evaluation.label_coverage') AS label_coverage,
        max(value) FILTER (name = 'ml.evaluation.predictions') AS predictions
    FROM metric_points
    WHERE
        name IN (
            'ml.evaluation.accuracy', 'ml.evaluation.labels', 'ml.evaluation.label_coverage', 'ml.evaluation.predictions'
        )
        AND time_ns BETWEEN $since_ns AND $until_ns
        AND received_ns >= $since_ns - {max_clock_skew_ns}
        AND type = 'gauge' AND (flags & 1) = 0 AND isfinite(value)
    GROUP BY attributes, service_name, service_instance_id, time_ns
)
WHERE model IS NOT NULL
GROUP BY ALL
