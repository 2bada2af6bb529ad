-- How far the inputs of each model in a window are from its training data, and its answers from its answers to it:
-- one row a feature, and one without a feature for the answers. docs/monitoring.md defines the statistics.
WITH {increments},
gauge AS (
    SELECT
        name,
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        coalesce(attributes ->> '/ml.feature.name', '') AS feature,
        coalesce(
            attributes ->> '/ml.feature.bin', attributes ->> '/ml.prediction.bin', attributes ->> '/ml.prediction.label'
        ) AS bin,
        attributes ->> '/ml.drift.statistic' AS statistic,
        json_exists(attributes, '/ml.prediction.bin') AS binned,
        arg_max(value, time_ns) AS value
    FROM (
        SELECT name, attributes, arg_max(value, time_ns) AS value, max(time_ns) AS time_ns
        FROM metric_points
        WHERE
            name IN (
                'ml.feature.reference', 'ml.feature.reference.mean', 'ml.feature.reference.size',
                'ml.feature.reference.deviation', 'ml.prediction.reference', 'ml.drift.min_effect', 'ml.drift.critical_value'
            )
            AND time_ns BETWEEN $since_ns - $lookback_ns AND $until_ns
            AND received_ns >= $since_ns - $lookback_ns - {slack_ns}
            AND isfinite(value)
            AND ($instances IS NULL OR list_contains($instances, service_instance_id))
        GROUP BY name, attributes
    )
    GROUP BY ALL
),
observed AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        coalesce(attributes ->> '/ml.feature.name', '') AS feature,
        coalesce(
            attributes ->> '/ml.feature.bin', attributes ->> '/ml.prediction.bin', attributes ->> '/ml.prediction.label'
        ) AS bin,
        sum(added) AS observed
    FROM increment
    WHERE name IN ('ml.feature.observations', 'ml.predictions')
    GROUP BY ALL
),
reference AS (
    SELECT model, version, feature, bin, binned, value AS share
    FROM gauge
    WHERE name IN ('ml.feature.reference', 'ml.prediction.reference') AND bin IS NOT NULL AND value BETWEEN 0 AND 1
),
mean AS (
    SELECT
        model, version, feature,
        max(value) FILTER (name = 'ml.feature.reference.mean') AS reference_mean,
        max(value) FILTER (name = 'ml.feature.reference.deviation') AS deviation
    FROM gauge
    WHERE name IN ('ml.feature.reference.mean', 'ml.feature.reference.deviation')
    GROUP BY ALL
),
summed AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        attributes ->> '/ml.feature.name' AS feature,
        sum(CASE WHEN attributes ->> '/ml.feature.sign' = 'negative' THEN -added ELSE added END) AS total
    FROM increment
    WHERE name = 'ml.feature.sum'
    GROUP BY ALL
),
-- Rows that were refused for a missing value are no observations; those that were let through are.
refused AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        attributes ->> '/ml.feature.name' AS feature,
        sum(added) AS refused
    FROM increment
    WHERE
        name = 'ml.data.violations'
        AND attributes ->> '/ml.data.violation.reason' = 'missing'
        AND coalesce(attributes ->> '/ml.data.violation.action', 'rejected') = 'rejected'
    GROUP BY ALL
),
-- The rows of the training data; of the answers, those that were answered to know.
training AS (
    SELECT model, version, feature, value AS size FROM gauge WHERE name = 'ml.feature.reference.size' AND value BETWEEN 1 AND 1e15
),
floor AS (
    SELECT model, version, statistic, value FROM gauge
    WHERE name = 'ml.drift.min_effect' AND feature = '' AND value BETWEEN 0 AND 1e6
),
critical AS (
    SELECT model, version, feature, statistic, value FROM gauge
    WHERE name = 'ml.drift.critical_value' AND value BETWEEN 0 AND 1e6
),
-- One row a bin of the training data; what has none there counts nowhere.
compared AS (
    SELECT
        model, version, feature, bin, coalesce(observed, 0) AS observed, share, size,
        bin NOT IN ('missing', 'other') AND (binned OR mean.reference_mean IS NOT NULL) AS ordered,
        CASE bin WHEN 'missing' THEN 1 WHEN 'other' THEN 2 ELSE 0 END AS place
    FROM reference
    LEFT JOIN observed USING (model, version, feature, bin)
    LEFT JOIN mean USING (model, version, feature)
    LEFT JOIN training USING (model, version, feature)
),
{statistics}
SELECT
    model, version, nullif(feature, '') AS feature, n, size, mean, reference_mean, deviation, statistics, bins
FROM moved LEFT JOIN judged USING (model, version, feature)
ORDER BY model, version, feature NULLS FIRST
