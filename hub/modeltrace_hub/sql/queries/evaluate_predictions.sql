-- The figures of labelled predictions of a model by version, as rows of several charts (`chart`). If predictions of a
-- version have different hashes, they are of different models, so `model` also has the hash. Predictions are selected
-- by their own time, and synthetic ones are left out. A challenger's prediction has the label of the prediction that it
-- shadows. All charts need the same predictions, so one query reads them once.
--   time: by step, the numbers of predictions and labels, correct ones, and absolute errors
--   reliability: by tenth of the confidence (low < confidence <= high)
--   ranking: by step and for all steps (NULL), ROC AUC and average precision of the positive class
--   threshold: the distinct probabilities of the positive class in descending order, in bins of about equal numbers
--   residual, value: by bin of the error, and by bins of value and label; the outer bins have no outer bound
WITH {logs_in_window},
label AS (
    SELECT
        field[1] AS prediction_id,
        arg_min(field[2], time_ns) AS true_label,
        arg_min(TRY_CAST(field[3] AS DOUBLE), time_ns) AS true_value
    FROM (
        SELECT
            time_ns,
            json_extract_string(attributes, ['/ml.prediction.id', '/ml.feedback.label', '/ml.feedback.value']) AS field
        FROM logs
        WHERE
            event_name = 'ml.feedback'
            AND received_ns >= $since_ns - {max_clock_skew_ns}
            AND contains(attributes::VARCHAR, $model_text)
    )
    GROUP BY prediction_id
),
-- A sender that gets no response sends the same record again, with the same ID.
prediction AS (
    SELECT
        any_value(version) AS version,
        any_value(hash) AS hash,
        any_value(labelled_id) AS labelled_id,
        any_value(label) AS label,
        any_value(value) AS value,
        any_value(confidence) AS confidence,
        any_value(effective_ns) AS effective_ns
    FROM (
        SELECT
            effective_ns,
            coalesce(field[2], '') AS version,
            field[3] AS prediction_id,
            coalesce(field[4], field[3]) AS labelled_id,
            field[5] AS label,
            TRY_CAST(field[6] AS DOUBLE) AS value,
            TRY_CAST(field[7] AS DOUBLE) AS confidence,
            field[9] AS hash
        FROM (
            SELECT
                effective_ns,
                json_extract_string(
                    attributes,
                    [
                        '/ml.model.name', '/ml.model.version', '/ml.prediction.id', '/ml.prediction.shadow_of',
                        '/ml.prediction.label', '/ml.prediction.value', '/ml.prediction.confidence',
                        '/modeltrace.synthetic', '/ml.model.hash'
                    ]
                ) AS field
            FROM in_window
            WHERE
                event_name = 'ml.prediction'
                AND effective_ns > $since_ns
                AND contains(attributes::VARCHAR, $model_text)
        )
        WHERE field[1] = $model AND field[3] IS NOT NULL AND field[8] IS DISTINCT FROM 'true'
    )
    GROUP BY prediction_id
),
evaluated AS MATERIALIZED (
    SELECT
        {
            'version': version,
            'hash': CASE
                WHEN min(hash) OVER (PARTITION BY version) < max(hash) OVER (PARTITION BY version) THEN coalesce(hash, '')
                ELSE ''
            END
        } AS model,
        label, true_label, confidence,
        -- NaN and values beyond the limit have no error, but the model is a regressor, and they are labels.
        value IS NOT NULL AS is_number,
        true_label IS NOT NULL OR true_value IS NOT NULL AS is_labelled,
        (effective_ns - $origin_ns - 1) // $step_ns AS step,
        CASE WHEN abs(value) < $max_value THEN value END AS value,
        CASE WHEN abs(true_value) < $max_value THEN true_value END AS true_value
    FROM prediction LEFT JOIN label ON label.prediction_id = labelled_id
),
score_group AS (
    SELECT
        model, step,
        CASE WHEN label = classes[2] THEN confidence ELSE 1 - confidence END AS score,
        count(*) AS labels,
        count(*) FILTER (true_label = classes[2]) AS positives
    FROM (
        -- The key is the version, U+001F and the hash. Some senders log no hash.
        SELECT
            *,
            CAST(CAST($classes AS JSON) AS MAP(VARCHAR, VARCHAR[])) AS by_model,
            coalesce(by_model[model.version || chr(31) || model.hash], by_model[model.version || chr(31)]) AS classes
        FROM evaluated
        WHERE confidence BETWEEN 0 AND 1
    )
    WHERE list_contains(classes, label) AND list_contains(classes, true_label)
    GROUP BY GROUPING SETS ((model, score), (model, step, score))
),
ranked AS MATERIALIZED (
    SELECT
        model, step, score, labels, positives,
        sum(labels) OVER above AS labels_above,
        sum(positives) OVER above AS positives_above
    FROM score_group
    WINDOW above AS (PARTITION BY model, step ORDER BY score DESC ROWS UNBOUNDED PRECEDING)
),
compared AS (
    SELECT model, value, true_value, value - true_value AS error
    FROM evaluated
    WHERE value IS NOT NULL AND true_value IS NOT NULL
),
edges AS (
    SELECT
        model,
        list_transform(
            range(1, $bins), lambda n: bounds.error[1] + (bounds.error[2] - bounds.error[1]) * n / $bins
        ) AS error_edges,
        list_transform(
            range(1, $bins),
            lambda n: bounds.low + (bounds.high - bounds.low) * n / $bins
        ) AS value_edges
    FROM (
        SELECT
            model,
            quantile_disc(error, [0.01, 0.99]) AS error,
            least(quantile_disc(value, 0.01), quantile_disc(true_value, 0.01)) AS low,
            greatest(quantile_disc(value, 0.99), quantile_disc(true_value, 0.99)) AS high
        FROM compared
        GROUP BY model
    ) AS bounds
),
binned AS (
    SELECT
        model, error_edges, value_edges,
        1 + len(list_filter(error_edges, lambda edge: edge < error)) AS error_bin,
        1 + len(list_filter(value_edges, lambda edge: edge < value)) AS value_bin,
        1 + len(list_filter(value_edges, lambda edge: edge < true_value)) AS true_bin
    FROM compared JOIN edges USING (model)
)
SELECT
    model, 'time' AS chart, step AS position, NULL::BIGINT AS true_position,
    NULL::DOUBLE AS low, NULL::DOUBLE AS high, NULL::DOUBLE AS true_low, NULL::DOUBLE AS true_high,
    count(*) AS predictions,
    count(*) FILTER (is_labelled) AS labels,
    count(*) FILTER (label = true_label) AS correct,
    NULL::BIGINT AS positives,
    count(abs(value - true_value)) AS errors,
    sum(abs(value - true_value)) AS total,
    NULL::DOUBLE AS roc_auc, NULL::DOUBLE AS average_precision,
    count(*) FILTER (is_number) AS numbers
FROM evaluated
GROUP BY model, step
UNION ALL
SELECT
    model, 'reliability', tenth, NULL, (tenth - 1) / 10, tenth / 10, NULL, NULL,
    NULL, count(*), count(*) FILTER (label = true_label), NULL, NULL, sum(confidence), NULL, NULL, NULL
FROM (
    -- Multiplication rounds, so the bin is corrected by comparison with its bounds.
    SELECT
        *,
        least(greatest(CAST(ceil(confidence * 10) AS BIGINT), 1), 10) AS near,
        CASE WHEN near > 1 AND confidence <= (near - 1) / 10 THEN near - 1
        WHEN near < 10 AND confidence > near / 10 THEN near + 1 ELSE near END AS tenth
    FROM evaluated
    WHERE true_label IS NOT NULL AND confidence BETWEEN 0 AND 1
)
GROUP BY model, tenth
UNION ALL
SELECT
    model, 'ranking', step, NULL, NULL, NULL, NULL, NULL,
    NULL, sum(labels), NULL, sum(positives), NULL, NULL,
    sum((labels - positives) * (positives_above - positives / 2))
    / nullif(sum(positives) * (sum(labels) - sum(positives)), 0),
    sum(positives * positives_above / labels_above) / nullif(sum(positives), 0), NULL
FROM ranked
GROUP BY model, step
UNION ALL
SELECT
    model, 'threshold', CAST(ceil(labels_above * $thresholds / all_labels) AS BIGINT) AS bin, NULL,
    min(score), max(score), NULL, NULL,
    NULL, sum(labels), NULL, sum(positives), NULL, NULL, NULL, NULL, NULL
FROM ranked JOIN (SELECT model, sum(labels) AS all_labels FROM ranked WHERE step IS NULL GROUP BY model) USING (model)
WHERE step IS NULL
GROUP BY model, bin
UNION ALL
SELECT
    model, 'residual', error_bin, NULL,
    any_value(error_edges[error_bin - 1]), any_value(error_edges[error_bin]), NULL, NULL,
    NULL, count(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM binned
GROUP BY model, error_bin
UNION ALL
SELECT
    model, 'value', value_bin, true_bin,
    any_value(value_edges[value_bin - 1]), any_value(value_edges[value_bin]),
    any_value(value_edges[true_bin - 1]), any_value(value_edges[true_bin]),
    NULL, count(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM binned
GROUP BY model, value_bin, true_bin
ORDER BY model, chart, position, true_position
