-- The statistics of each feature, from the bins in `compared`, and what is to be thought of them.
counted AS (
    SELECT
        *,
        sum(observed) OVER feature AS n,
        count(*) OVER feature AS k,
        bool_or(ordered) OVER feature AS has_order,
        sum(share) OVER feature AS covered,
        -- Of numbers alone, in their order; what is missing is no number.
        sum(observed) FILTER (ordered) OVER lower / sum(observed) FILTER (ordered) OVER feature AS below,
        sum(share) FILTER (ordered) OVER lower / sum(share) FILTER (ordered) OVER feature AS reference_below
    FROM compared
    WINDOW
        feature AS (PARTITION BY model, version, feature),
        lower AS (PARTITION BY model, version, feature ORDER BY bin)
),
-- Half a count is added to each bin, so that an empty one does not make a logarithm infinite.
smoothed AS (
    SELECT
        *,
        CASE WHEN n > 0 AND covered > 0 THEN (observed + 0.5) / (n + 0.5 * k) END AS p,
        (share * size + 0.5) / (size + 0.5 * k) AS q
    FROM counted
),
measured AS (
    SELECT
        model, version, feature, any_value(n) AS n, any_value(size) AS size,
        sum(observed) FILTER (bin <> 'missing') AS present,
        list({'bin': bin, 'observed': observed, 'share': share, 'ordered': ordered} ORDER BY (NOT ordered), bin) AS bins,
        sum((p - q) * ln(p / q)) AS psi,
        0.5 * sum(p * log2(2 * p / (p + q)) + q * log2(2 * q / (p + q))) AS jensen_shannon,
        -- Of the shares as they are.
        max(abs(below - reference_below)) FILTER (ordered) AS ks,
        (sum(observed) FILTER (bin = 'missing')) / nullif(any_value(n), 0) AS missing,
        sum(share) FILTER (bin = 'missing') AS reference_missing,
        -- A number always has its bin.
        (sum(observed) FILTER (bin = 'other' AND NOT has_order)) / nullif(any_value(n), 0) AS other,
        sum(share) FILTER (bin = 'other' AND NOT has_order) AS reference_other,
        any_value(has_order) AS has_order, any_value(covered) AS covered
    FROM smoothed
    GROUP BY model, version, feature
),
moved AS (
    SELECT
        measured.*, reference_mean, deviation, total / nullif(present, 0) AS mean,
        -- A mean that is nearly nothing beside the deviation is no measure of a change.
        abs(total / nullif(present, 0) - reference_mean)
        / nullif(greatest(abs(reference_mean), CASE WHEN abs(reference_mean) < 0.1 * deviation THEN deviation END), 0)
            AS mean_change
    FROM measured
    LEFT JOIN summed USING (model, version, feature)
    LEFT JOIN mean USING (model, version, feature)
),
statistic AS (
    SELECT
        model, version, feature, n, size, one.place AS place, one.name AS statistic, one.value AS value,
        one.share AS share
    FROM (
        SELECT model, version, feature, n, size, unnest([
            {'place': 1, 'name': 'psi', 'value': psi, 'share': NULL, 'fits': covered > 0},
            {'place': 2, 'name': 'jensen_shannon', 'value': jensen_shannon, 'share': NULL, 'fits': covered > 0},
            {'place': 3, 'name': 'ks', 'value': ks, 'share': NULL, 'fits': has_order AND covered > 0},
            {'place': 4, 'name': 'mean_change', 'value': mean_change, 'share': NULL, 'fits': reference_mean IS NOT NULL},
            {'place': 5, 'name': 'new_categories', 'value': other - reference_other, 'share': reference_other, 'fits': reference_other IS NOT NULL},
            {'place': 6, 'name': 'missing', 'value': missing - reference_missing, 'share': reference_missing, 'fits': reference_missing IS NOT NULL}
        ]) AS one
        FROM moved
    ) AS each_one
    WHERE one.fits
),
-- The most that undrifted samples of this size reach, from a critical value that is independent of the size.
weighed AS (
    SELECT
        statistic.*, floor.value AS floor,
        CASE
            WHEN statistic IN ('psi', 'jensen_shannon') THEN critical.value * (1 / n + 1 / size)
            WHEN statistic IN ('ks', 'mean_change') THEN critical.value * sqrt(1 / n + 1 / size)
            ELSE
                critical.value ** 2 / (6 * n) + critical.value ** 2 / (2 * size)
                + sqrt((critical.value ** 2 / (2 * size)) ** 2 + critical.value ** 2 * share * (1 / n + 1 / size))
        END AS critical
    FROM statistic
    LEFT JOIN (SELECT model, version, statistic, value FROM gauge WHERE name = 'ml.drift.floor' AND feature = '') AS floor
        USING (model, version, statistic)
    LEFT JOIN (
        SELECT model, version, feature, statistic, value FROM gauge WHERE name = 'ml.drift.critical_value'
    ) AS critical
        USING (model, version, feature, statistic)
),
-- Drift is above the floor, which is the least that matters, and above what chance makes of no drift.
judged AS (
    SELECT
        model, version, feature,
        list({
            'statistic': statistic, 'value': value, 'threshold': greatest(floor, critical), 'floor': floor,
            'state': CASE
                WHEN n < $enough OR value IS NULL THEN 'not enough data'
                WHEN floor IS NOT NULL AND critical IS NOT NULL
                    THEN CASE WHEN value > greatest(floor, critical) THEN 'drift' ELSE 'ok' END
            END
        } ORDER BY place) AS statistics
    FROM weighed
    GROUP BY model, version, feature
)
