-- The drift statistics of each feature, from the bins in `compared`, their thresholds and states.
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
-- Each bin gets half a row more, so that the logarithm of an empty bin is defined.
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
        sum(observed) FILTER (bin = 'missing') AS missing,
        sum(share) FILTER (bin = 'missing') AS expected_missing,
        -- A numeric feature has no "other" bin.
        sum(observed) FILTER (bin = 'other' AND NOT has_order) AS other,
        sum(share) FILTER (bin = 'other' AND NOT has_order) AS expected_other
    FROM smoothed
    GROUP BY model, version, feature
),
feature_statistics AS (
    SELECT
        measured.*, reference_mean, reference_deviation, coalesce(rejected, 0) AS rejected,
        total / nullif(n_numbers, 0) AS mean,
        -- Relative change of the mean. If the reference mean is close to 0, divide by the standard deviation instead.
        abs(total / nullif(n_numbers, 0) - reference_mean)
        / nullif(CASE WHEN abs(reference_mean) < 0.1 * reference_deviation THEN reference_deviation ELSE abs(reference_mean) END, 0)
            AS mean_change
    FROM measured
    LEFT JOIN feature_sum USING (model, version, feature)
    LEFT JOIN reference_mean USING (model, version, feature)
    LEFT JOIN rejected USING (model, version, feature)
),
-- One row per statistic, with `n` rows of the window and `size` rows of the training data.
statistic AS (
    SELECT model, version, feature, unnest(statistics, max_depth := 2)
    FROM (
        SELECT model, version, feature, list_filter([
            {'position': 1, 'statistic': 'psi', 'value': psi, 'n': n, 'size': size, 'share': 0.0, 'applies': true},
            {
                'position': 2, 'statistic': 'jensen_shannon', 'value': jensen_shannon, 'n': n, 'size': size, 'share': 0.0,
                'applies': true
            },
            {
                'position': 3, 'statistic': 'ks', 'value': ks, 'n': n_numbers, 'size': size_numbers, 'share': 0.0,
                'applies': has_order
            },
            {
                'position': 4, 'statistic': 'mean_change', 'value': mean_change, 'n': n_numbers, 'size': size_numbers,
                'share': 0.0, 'applies': reference_mean IS NOT NULL
            },
            {
                'position': 5, 'statistic': 'new_categories', 'value': other / nullif(n, 0) - expected_other, 'n': n,
                'size': size, 'share': expected_other, 'applies': expected_other IS NOT NULL
            },
            {
                'position': 6, 'statistic': 'missing',
                'value': (missing + rejected) / nullif(n + rejected, 0) - expected_missing, 'n': n + rejected,
                'size': size, 'share': expected_missing, 'applies': expected_missing IS NOT NULL
            }
        ], lambda item: item.applies) AS statistics
        FROM feature_statistics
    )
),
-- `by_chance` is what samples of this size reach without drift, from a critical value that does not depend on the size.
statistic_limits AS (
    SELECT
        statistic.*, min_effect.value AS min_effect,
        CASE
            WHEN statistic IN ('psi', 'jensen_shannon') THEN critical.value * (1 / n + 1 / size)
            WHEN statistic IN ('ks', 'mean_change') THEN critical.value * sqrt(1 / n + 1 / size)
            ELSE
                critical.value ** 2 / (6 * n) + critical.value ** 2 / (2 * size)
                + sqrt((critical.value ** 2 / (2 * size)) ** 2 + critical.value ** 2 * share * (1 / n + 1 / size))
        END AS by_chance
    FROM statistic
    LEFT JOIN min_effect USING (model, version, statistic)
    LEFT JOIN critical USING (model, version, feature, statistic)
),
-- A statistic drifts if it is above the minimum effect and above what chance reaches without drift.
statistic_states AS (
    SELECT
        model, version, feature,
        list({
            'statistic': statistic, 'value': value, 'n': n, 'min_effect': min_effect,
            'threshold':
                CASE WHEN n > 0 AND min_effect IS NOT NULL AND by_chance IS NOT NULL THEN greatest(min_effect, by_chance) END,
            'state': CASE
                WHEN min_effect IS NULL OR by_chance IS NULL AND n > 0 THEN NULL
                WHEN n < $min_rows OR value IS NULL THEN 'not enough data'
                WHEN value > greatest(min_effect, by_chance) THEN 'drift'
                ELSE 'ok'
            END
        } ORDER BY position) AS statistics
    FROM statistic_limits
    GROUP BY model, version, feature
)
