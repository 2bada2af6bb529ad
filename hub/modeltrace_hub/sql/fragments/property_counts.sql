-- Counts the items of both sets by property. `item` is the sample: number, whether it is selected, trace ID, time, and
-- the size of its set. `property` has the properties of each item: kind, key and value, which is JSON. The property
-- without a kind is that of all items. Numbers with many values are counted by bin: lower bound exclusive, upper bound
-- inclusive. The bounds are those of the training data (`$edges`, by feature), or else tenths of all items. A duration
-- counts for each bound that it exceeds.
valued AS MATERIALIZED (
    SELECT DISTINCT
        item, kind, key, left(value ->> '$', $max_text) AS value,
        CASE WHEN json_type(value) IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN TRY_CAST(value AS DOUBLE) END AS number
    FROM property
),
-- Attributes whose values are nearly unique, such as IDs: they say nothing about other items. Numbers with a fraction are
-- measurements, which are counted by bin.
unique_key AS (
    SELECT kind, key
    FROM valued
    WHERE kind IN ('attribute', 'resource')
    GROUP BY kind, key
    HAVING count(DISTINCT value) > $max_unique_share * count(*) AND count(*) FILTER (number <> floor(number)) = 0
),
numeric_key AS (
    SELECT
        kind, key,
        coalesce(
            CASE WHEN kind = 'feature' THEN CAST(CAST($edges AS JSON) AS MAP(VARCHAR, DOUBLE[]))[key] END,
            list_distinct(quantile_disc(number, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]))
        ).list_sort() AS edges
    FROM valued
    GROUP BY kind, key
    HAVING count(number) = count(value) AND count(DISTINCT number) > $max_categories
),
binned AS (
    SELECT DISTINCT
        item, kind, key, edges,
        CASE WHEN edges IS NULL OR number IS NULL THEN value END AS value,
        unnest(CASE WHEN kind = 'duration' THEN range(2, position + 1) ELSE [position] END) AS bin
    FROM (
        SELECT *, 1 + len(list_filter(edges, lambda edge: edge < number)) AS position
        FROM (FROM valued ANTI JOIN unique_key USING (kind, key)) LEFT JOIN numeric_key USING (kind, key)
    )
)
SELECT
    kind, key, value,
    any_value(edges[bin - 1]) FILTER (bin > 1) AS low,
    any_value(edges[bin]) FILTER (kind <> 'duration') AS high,
    bin IS NOT NULL AS is_bin,
    count(*) FILTER (selected) AS selected_count,
    count(*) FILTER (NOT selected) AS other_count,
    max(total) FILTER (selected) AS selected_total,
    max(total) FILTER (NOT selected) AS other_total,
    bit_xor(hash(item)) AS items_hash,
    max_by(trace_id, item_ns, 3) FILTER (selected) AS trace_ids
FROM binned JOIN item USING (item)
GROUP BY kind, key, value, bin
HAVING count(*) >= $min_count OR kind = ''
QUALIFY row_number() OVER (PARTITION BY kind, key ORDER BY count(*) DESC, value, bin) <= $max_values
