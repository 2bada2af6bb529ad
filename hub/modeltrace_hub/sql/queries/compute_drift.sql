-- The drift of each model in a window. The features are compared with the training data, and the output with the output
-- on the training data. One row per feature, one row for the output, in which `feature` is NULL, and one row per named
-- output, in which `output` is its name. docs/monitoring.md defines the statistics. Within the query, the key of the
-- output is the feature '', and that of a named output begins with U+001F, which names of features do not contain.
WITH {counter_increases},
-- The newest value of each gauge that describes the training data or a threshold. The feature '' is the output.
gauge AS (
    SELECT
        name,
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        coalesce(attributes ->> '/ml.feature.name', chr(31) || (attributes ->> '/ml.output.name'), '') AS feature,
        coalesce(
            attributes ->> '/ml.feature.bin', attributes ->> '/ml.output.bin', attributes ->> '/ml.prediction.bin',
            attributes ->> '/ml.prediction.label'
        ) AS bin,
        attributes ->> '/ml.drift.statistic' AS statistic,
        arg_max(value, time_ns) AS value
    FROM (
        SELECT name, attributes, arg_max(value, time_ns) AS value, max(time_ns) AS time_ns
        FROM metric_points
        WHERE
            name IN (
                'ml.feature.reference', 'ml.feature.reference.mean', 'ml.feature.reference.size',
                'ml.feature.reference.deviation', 'ml.feature.reference.score', 'ml.prediction.reference',
                'ml.output.reference', 'ml.prediction.reference.held_out', 'ml.drift.min_effect', 'ml.drift.critical_value'
            )
            AND time_ns BETWEEN $since_ns - $lookback_ns AND $until_ns
            AND received_ns >= $since_ns - $lookback_ns - {max_clock_skew_ns}
            AND isfinite(value)
            AND ($sources IS NULL OR list_contains($sources, service_name || chr(31) || service_instance_id))
        GROUP BY name, attributes
    )
    GROUP BY ALL
),
-- The rows of the window by bin.
observed AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        coalesce(attributes ->> '/ml.feature.name', chr(31) || (attributes ->> '/ml.output.name'), '') AS feature,
        coalesce(
            attributes ->> '/ml.feature.bin', attributes ->> '/ml.output.bin', attributes ->> '/ml.prediction.bin',
            attributes ->> '/ml.prediction.label'
        ) AS bin,
        sum(added) AS observed
    FROM increase
    WHERE name IN ('ml.feature.observations', 'ml.output.observations', 'ml.predictions')
    GROUP BY ALL
),
-- The share of each bin in the training data.
reference AS (
    SELECT model, version, feature, bin, value AS share
    FROM gauge
    WHERE
        name IN ('ml.feature.reference', 'ml.output.reference', 'ml.prediction.reference')
        AND bin IS NOT NULL AND value BETWEEN 0 AND 1
),
reference_mean AS (
    SELECT
        model, version, feature,
        max(value) FILTER (name = 'ml.feature.reference.mean') AS reference_mean,
        max(value) FILTER (name = 'ml.feature.reference.deviation') AS reference_deviation
    FROM gauge
    WHERE name IN ('ml.feature.reference.mean', 'ml.feature.reference.deviation')
    GROUP BY ALL
),
-- The sum of each numeric feature, for its mean. Counters only increase, so negative values have a counter of their
-- own.
feature_sum AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        attributes ->> '/ml.feature.name' AS feature,
        sum(CASE WHEN attributes ->> '/ml.feature.sign' = 'negative' THEN -added ELSE added END) AS total
    FROM increase
    WHERE name = 'ml.feature.sum'
    GROUP BY ALL
),
-- The score of each bin of numbers. Bins of categories have no score.
score AS (
    SELECT model, version, feature, bin, value AS score
    FROM gauge
    WHERE name = 'ml.feature.reference.score' AND bin IS NOT NULL AND value BETWEEN -1e6 AND 1e6
),
-- Rows that were rejected because of a missing value. The observations contain accepted rows only.
rejected AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        attributes ->> '/ml.feature.name' AS feature,
        sum(added) AS rejected
    FROM increase
    WHERE
        name = 'ml.data.violations'
        AND attributes ->> '/ml.data.violation.reason' = 'missing'
        AND coalesce(attributes ->> '/ml.data.violation.action', 'rejected') = 'rejected'
    GROUP BY ALL
),
-- Half the squared differences between consecutive requests, and the number of pairs that were compared.
difference AS (
    SELECT
        attributes ->> '/ml.model.name' AS model,
        coalesce(attributes ->> '/ml.model.version', '') AS version,
        coalesce(attributes ->> '/ml.feature.name', chr(31) || (attributes ->> '/ml.output.name'), '') AS feature,
        sum(added) AS difference
    FROM increase
    WHERE
        name IN (
            'ml.feature.successive_difference', 'ml.output.successive_difference', 'ml.prediction.successive_difference'
        )
    GROUP BY ALL
),
-- `processes` is to how many processes the requests are distributed. A process with few requests counts little.
pairs AS (
    SELECT model, version, sum(pairs) AS pairs, sum(pairs) ** 2 / sum(pairs ** 2) AS processes
    FROM (
        SELECT
            attributes ->> '/ml.model.name' AS model,
            coalesce(attributes ->> '/ml.model.version', '') AS version,
            sum(added) AS pairs
        FROM series_increase
        WHERE name = 'ml.predictions.pairs'
        GROUP BY model, version, series_id
    )
    GROUP BY model, version
),
-- The number of training rows; for the output, the number of rows whose predictions are the reference.
training AS (
    SELECT model, version, feature, value AS size FROM gauge
    WHERE name = 'ml.feature.reference.size' AND value BETWEEN 1 AND 1e15
),
-- The number of these rows that the model was not fitted on.
held_out AS (
    SELECT model, version, value AS held_out_rows FROM gauge
    WHERE name = 'ml.prediction.reference.held_out' AND feature = '' AND value BETWEEN 1 AND 1e15
),
min_effect AS (
    SELECT model, version, statistic, value FROM gauge
    WHERE name = 'ml.drift.min_effect' AND feature = '' AND value BETWEEN 0 AND 1e6
),
critical AS (
    SELECT model, version, feature, statistic, value FROM gauge
    WHERE name = 'ml.drift.critical_value' AND value BETWEEN 0 AND 1e6
),
-- One row per bin of the training data. Values of other bins are not compared. The bins of numbers are ordered.
compared AS (
    SELECT
        model, version, feature, bin, coalesce(observed, 0) AS observed, share, size, score,
        score IS NOT NULL AS ordered,
        CASE bin WHEN 'missing' THEN 1 WHEN 'other' THEN 2 WHEN 'unseen' THEN 3 ELSE 0 END AS position
    FROM reference
    LEFT JOIN observed USING (model, version, feature, bin)
    LEFT JOIN score USING (model, version, feature, bin)
    LEFT JOIN training USING (model, version, feature)
),
{drift_statistics}
SELECT
    model, version, CASE WHEN feature <> '' AND NOT starts_with(feature, chr(31)) THEN feature END AS feature,
    CASE WHEN starts_with(feature, chr(31)) THEN feature[2:] END AS output, n, independent_share, size, mean, reference_mean, reference_deviation,
    statistics, bins
FROM feature_statistics LEFT JOIN statistic_states USING (model, version, feature)
ORDER BY model, version, output IS NOT NULL, feature NULLS FIRST, output
