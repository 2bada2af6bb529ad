-- The statistics of each feature, from the bins in `compared`, and what is to be thought of them.
counted AS (
    SELECT
        *,
        share * size AS trained,
        sum(observed) OVER feature AS n,
        bool_or(ordered) OVER feature AS has_order,
        -- Of numbers alone, in their order; what is missing is no number.
        sum(observed) FILTER (ordered) OVER feature AS n_numbers,
        sum(observed) FILTER (ordered) OVER lower / nullif(sum(observed) FILTER (ordered) OVER feature, 0) AS below,
        sum(share) FILTER (ordered) OVER lower / nullif(sum(share) FILTER (ordered) OVER feature, 0) AS trained_below
    FROM compared
    WINDOW
        feature AS (PARTITION BY model, version, feature),
        lower AS (PARTITION BY model, version, feature ORDER BY bin)
),
-- Half a row is added to each bin, so that an empty one has a logarithm.
smoothed AS (
    SELECT
        *,
        CASE WHEN n > 0 THEN (observed + 0.5) / sum(observed + 0.5) OVER feature END AS p,
        (trained + 0.5) / sum(trained + 0.5) OVER feature AS q
    FROM counted
    WINDOW feature AS (PARTITION BY model, version, feature)
),
measured AS (
    SELECT
        model, version, feature, any_value(n) AS n, any_value(size) AS size, any_value(has_order) AS has_order,
        any_value(n_numbers) AS n_numbers, sum(trained) FILTER (ordered) AS size_numbers,
        list(
            {'bin': bin, 'observed': observed, 'share': share, 'ordered': ordered} ORDER BY (NOT ordered), place, bin
        ) AS bins,
        sum((p - q) * ln(p / q)) AS psi,
        0.5 * sum(p * log2(2 * p / (p + q)) + q * log2(2 * q / (p + q))) AS jensen_shannon,
        max(abs(below - trained_below)) FILTER (ordered) AS ks,
        sum(observed) FILTER (bin = 'missing') AS missing,
        sum(share) FILTER (bin = 'missing') AS trained_missing,
        -- A number always has its bin.
        sum(observed) FILTER (bin = 'other' AND NOT has_order) AS other,
        sum(share) FILTER (bin = 'other' AND NOT has_order) AS trained_other
    FROM smoothed
    GROUP BY model, version, feature
),
moved AS (
    SELECT
        measured.*, reference_mean, deviation, coalesce(refused, 0) AS refused,
        total / nullif(n_numbers, 0) AS mean,
        -- A mean that is nearly nothing beside the deviation is no measure of a change.
        abs(total / nullif(n_numbers, 0) - reference_mean)
        / nullif(CASE WHEN abs(reference_mean) < 0.1 * deviation THEN deviation ELSE abs(reference_mean) END, 0)
            AS mean_change
    FROM measured
    LEFT JOIN summed USING (model, version, feature)
    LEFT JOIN mean USING (model, version, feature)
    LEFT JOIN refused USING (model, version, feature)
),
-- Each with the rows that it was computed from, and those of the training data.
statistic AS (
    SELECT model, version, feature, unnest(found, max_depth := 2)
    FROM (
        SELECT model, version, feature, list_filter([
            {'place': 1, 'statistic': 'psi', 'value': psi, 'n': n, 'size': size, 'share': 0.0, 'fits': true},
            {
                'place': 2, 'statistic': 'jensen_shannon', 'value': jensen_shannon, 'n': n, 'size': size, 'share': 0.0,
                'fits': true
            },
            {
                'place': 3, 'statistic': 'ks', 'value': ks, 'n': n_numbers, 'size': size_numbers, 'share': 0.0,
                'fits': has_order
            },
            {
                'place': 4, 'statistic': 'mean_change', 'value': mean_change, 'n': n_numbers, 'size': size_numbers,
                'share': 0.0, 'fits': reference_mean IS NOT NULL
            },
            {
                'place': 5, 'statistic': 'new_categories', 'value': other / nullif(n, 0) - trained_other, 'n': n,
                'size': size, 'share': trained_other, 'fits': trained_other IS NOT NULL
            },
            {
                'place': 6, 'statistic': 'missing',
                'value': (missing + refused) / nullif(n + refused, 0) - trained_missing, 'n': n + refused,
                'size': size, 'share': trained_missing, 'fits': trained_missing IS NOT NULL
            }
        ], lambda one: one.fits) AS found
        FROM moved
    )
),
-- What undrifted samples of this size reach, from a critical value that is independent of the size.
weighed AS (
    SELECT
        statistic.*, floor.value AS floor,
        CASE
            WHEN statistic IN ('psi', 'jensen_shannon') THEN critical.value * (1 / n + 1 / size)
            WHEN statistic IN ('ks', 'mean_change') THEN critical.value * sqrt(1 / n + 1 / size)
            ELSE
                critical.value ** 2 / (6 * n) + critical.value ** 2 / (2 * size)
                + sqrt((critical.value ** 2 / (2 * size)) ** 2 + critical.value ** 2 * share * (1 / n + 1 / size))
        END AS by_chance
    FROM statistic
    LEFT JOIN floor USING (model, version, statistic)
    LEFT JOIN critical USING (model, version, feature, statistic)
),
-- Drift is above the floor, which is the least that matters, and above what chance makes of no drift.
judged AS (
    SELECT
        model, version, feature,
        list({
            'statistic': statistic, 'value': value, 'n': n, 'floor': floor,
            'threshold':
                CASE WHEN n > 0 AND floor IS NOT NULL AND by_chance IS NOT NULL THEN greatest(floor, by_chance) END,
            'state': CASE
                WHEN floor IS NULL OR by_chance IS NULL AND n > 0 THEN NULL
                WHEN n < $enough OR value IS NULL THEN 'not enough data'
                WHEN value > greatest(floor, by_chance) THEN 'drift'
                ELSE 'ok'
            END
        } ORDER BY place) AS statistics
    FROM weighed
    GROUP BY model, version, feature
)
