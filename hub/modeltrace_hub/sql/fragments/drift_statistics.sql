-- The drift statistics of each feature with their thresholds and states, computed from the bins in `compared`.
counted AS (
    SELECT
        *,
        share * size AS expected,
        sum(observed) OVER feature AS n,
        bool_or(ordered) OVER feature AS has_order,
        -- Cumulative shares of the numeric bins only: a missing value is not a number.
        sum(observed) FILTER (ordered) OVER feature AS n_numbers,
        sum(observed) FILTER (ordered) OVER lower / nullif(sum(observed) FILTER (ordered) OVER feature, 0) AS below,
        sum(share) FILTER (ordered) OVER lower / nullif(sum(share) FILTER (ordered) OVER feature, 0) AS expected_below
    FROM compared
    WINDOW
        feature AS (PARTITION BY model, version, feature),
        lower AS (PARTITION BY model, version, feature ORDER BY bin)
),
-- Half a row is added to each bin, so that the logarithm of an empty bin is defined.
smoothed AS (
    SELECT
        *,
        CASE WHEN n > 0 THEN (observed + 0.5) / sum(observed + 0.5) OVER feature END AS p,
        (expected + 0.5) / sum(expected + 0.5) OVER feature AS q
    FROM counted
    WINDOW feature AS (PARTITION BY model, version, feature)
),
measured AS (
    SELECT
        model, version, feature, any_value(n) AS n, any_value(size) AS size, any_value(has_order) AS has_order,
        any_value(n_numbers) AS n_numbers, sum(expected) FILTER (ordered) AS size_numbers,
        list(
            {'bin': bin, 'observed': observed, 'share': share, 'ordered': ordered} ORDER BY (NOT ordered), position, bin
        ) AS bins,
        sum((p - q) * ln(p / q)) AS psi,
        0.5 * sum(p * log2(2 * p / (p + q)) + q * log2(2 * q / (p + q))) AS jensen_shannon,
        max(abs(below - expected_below)) FILTER (ordered) AS ks,
        -- Scores have mean 0 and variance 1 in the training data. The scores of a constant feature are 0.
        abs(sum(observed * score)) / nullif(any_value(n_numbers), 0) AS location,
        sum(share * (score ** 2 - 1) ** 2) / nullif(sum(share) FILTER (ordered), 0) AS variance,
        -- The variance of the window: of the scores, or the probability that two independent categories differ.
        CASE
            WHEN any_value(has_order)
            THEN sum(observed * coalesce(score, 0) ** 2) / any_value(n) - (sum(observed * coalesce(score, 0)) / any_value(n)) ** 2
            ELSE 1 - sum(observed ** 2) / any_value(n) ** 2
        END AS window_variance,
        -- Two values with about equal shares have no spread.
        CASE
            WHEN max(abs(score)) > 0 AND variance > 0.01 THEN abs(sum(observed * (score ** 2 - 1))) / sqrt(variance)
            ELSE 0
        END / nullif(any_value(n_numbers), 0) AS spread
    FROM smoothed
    GROUP BY model, version, feature
),
feature_statistics AS (
    SELECT
        measured.*, reference_mean, reference_deviation, total / nullif(n_numbers, 0) AS mean,
        least(1 - difference / pairs / window_variance, 0.999) AS correlation,
        -- How many independent rows one row is worth. A correlation of at most three standard errors may be chance. If
        -- requests are distributed to several processes, the correlation is that of rows further apart.
        CASE
            WHEN pairs > 0 AND window_variance > 0 AND correlation > 3 / sqrt(pairs * processes)
            THEN (1 - correlation) / (1 + (2 * processes - 1) * correlation)
            ELSE 1
        END AS independent_share
    FROM measured
    LEFT JOIN difference USING (model, version, feature)
    LEFT JOIN pairs USING (model, version)
    LEFT JOIN feature_sum USING (model, version, feature)
    LEFT JOIN reference_mean USING (model, version, feature)
),
-- Statistics of all bins of a feature: one row per statistic, with `n` rows of the window and `size` training rows.
bin_statistic AS (
    SELECT model, version, feature, independent_share, unnest(statistics, max_depth := 2)
    FROM (
        SELECT model, version, feature, independent_share, list_filter([
            {'position': 1, 'statistic': 'psi', 'value': psi, 'n': n, 'size': size, 'applies': true},
            {'position': 2, 'statistic': 'jensen_shannon', 'value': jensen_shannon, 'n': n, 'size': size, 'applies': true},
            {'position': 3, 'statistic': 'ks', 'value': ks, 'n': n_numbers, 'size': size_numbers, 'applies': has_order},
            {
                'position': 4, 'statistic': 'location', 'value': location, 'n': n_numbers, 'size': size_numbers,
                'applies': has_order
            },
            {
                'position': 5, 'statistic': 'spread', 'value': spread, 'n': n_numbers, 'size': size_numbers,
                'applies': has_order
            }
        ], lambda item: item.applies) AS statistics
        FROM feature_statistics
    )
),
-- The share of one bin: of each category or class, of unseen categories, and of missing values, rejected rows included.
bin_share AS (
    SELECT
        model, version, feature, size, share, independent_share,
        CASE
            WHEN feature = '' OR starts_with(feature, chr(31)) THEN 'share_change'
            WHEN bin = 'missing' THEN 'missing'
            WHEN bin = 'unseen' THEN 'new_categories'
            ELSE 'share_change'
        END AS statistic,
        counted.n + coalesce(rejected, 0) AS n_bin,
        (observed + coalesce(rejected, 0)) / nullif(n_bin, 0) - share AS change,
        CASE WHEN change < 0 THEN 1 - share ELSE share END AS share_before
    FROM counted
    LEFT JOIN (SELECT *, 'missing' AS bin FROM rejected WHERE feature <> '') USING (model, version, feature, bin)
    LEFT JOIN (SELECT model, version, feature, independent_share FROM feature_statistics) USING (model, version, feature)
    WHERE NOT has_order OR bin = 'missing'
),
statistic AS (
    SELECT
        bin_statistic.* EXCLUDE (applies), n * independent_share AS independent, min_effect.value AS min_effect,
        1 / independent + 1 / size AS variance,
        critical.value * CASE WHEN statistic IN ('psi', 'jensen_shannon') THEN variance ELSE sqrt(variance) END AS by_chance
    FROM bin_statistic
    LEFT JOIN min_effect USING (model, version, statistic)
    LEFT JOIN critical USING (model, version, feature, statistic)
    UNION ALL BY NAME
    SELECT
        model, version, feature, statistic,
        CASE statistic WHEN 'share_change' THEN 6 WHEN 'new_categories' THEN 7 ELSE 8 END AS position,
        CASE WHEN statistic = 'share_change' THEN abs(change) ELSE change END AS value, n_bin AS n, size,
        n_bin * independent_share AS independent, min_effect.value AS min_effect,
        -- The threshold of a decrease is that of an increase of the share of all other rows. Fewer new categories than
        -- expected are no drift.
        CASE
            WHEN statistic = 'new_categories' AND change < 0 THEN share
            ELSE sin(least(
                asin(sqrt((share_before * size + 1.5) / (size + 1.5))) + critical.value / 2 * sqrt(1 / independent + 1 / size),
                pi() / 2
            )) ** 2 + 1 / independent - share_before
        END AS by_chance
    FROM bin_share
    LEFT JOIN min_effect USING (model, version, statistic)
    LEFT JOIN critical USING (model, version, feature, statistic)
),
-- One row per statistic. Of the changes of categories, it has the one that exceeds its threshold most. `by_chance` is the
-- value that samples of this size can reach by chance, without drift.
statistic_limits AS (
    SELECT *, CASE WHEN n > 0 THEN greatest(min_effect, by_chance) END AS threshold
    FROM statistic
    QUALIFY row_number() OVER (
        PARTITION BY model, version, feature, statistic ORDER BY abs(value) / threshold DESC NULLS LAST, abs(value) DESC
    ) = 1
),
-- A statistic is in drift if it is above the minimum effect and above `by_chance`. Outputs have no state if the model was
-- fitted on all rows of their reference.
statistic_states AS (
    SELECT
        model, version, feature,
        list({
            'statistic': statistic, 'value': value, 'n': n, 'independent': independent, 'min_effect': min_effect,
            'threshold': threshold,
            'state': CASE
                WHEN min_effect IS NULL OR by_chance IS NULL AND n > 0 THEN NULL
                WHEN (feature = '' OR starts_with(feature, chr(31))) AND held_out_rows IS NULL THEN 'no held-out reference'
                WHEN independent < $min_rows OR value IS NULL THEN 'not enough data'
                WHEN abs(value) > threshold THEN 'drift'
                WHEN size < $min_training_rows THEN 'reference too small'
                ELSE 'ok'
            END
        } ORDER BY position) AS statistics
    FROM statistic_limits
    LEFT JOIN held_out USING (model, version)
    GROUP BY model, version, feature
)
