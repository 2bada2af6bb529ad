-- The properties of two sets of predictions, with the number of predictions of each set that have them. `{selected}`
-- and `{against}` define the sets. Each set has a random sample of at most `$max_items` predictions.
WITH label AS (
    SELECT
        attributes ->> '/ml.prediction.id' AS prediction_id,
        arg_min(coalesce(attributes ->> '/ml.feedback.label', attributes ->> '/ml.feedback.value'), time_ns) AS true_label
    FROM logs
    WHERE event_name = 'ml.feedback' AND received_ns >= $since_ns - {max_clock_skew_ns}
    GROUP BY prediction_id
),
prediction AS (
    SELECT
        *, rowid AS log, {prediction_identity} AS identity,
        attributes ->> '/ml.prediction.id' AS prediction_id,
        CASE WHEN time_ns <= received_ns + {max_clock_skew_ns} THEN time_ns ELSE received_ns END AS effective_ns
    FROM logs
    WHERE event_name = 'ml.prediction' AND received_ns >= $since_ns - {max_clock_skew_ns}
),
-- A sender that gets no response sends the same record again.
candidate AS (
    SELECT min(log) AS log, any_value(CASE WHEN {selected} THEN true WHEN {against} THEN false END) AS selected
    FROM prediction LEFT JOIN label USING (prediction_id)
    WHERE effective_ns > $since_ns AND effective_ns <= $until_ns{conditions}
    GROUP BY identity
),
sampled AS (
    SELECT log, selected, count(*) OVER (PARTITION BY selected) AS total
    FROM candidate
    WHERE selected IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY selected ORDER BY hash(log), log) <= $max_items
),
item AS MATERIALIZED (
    SELECT
        row_number() OVER () AS item, selected, total, trace_id, span_id, time_ns AS item_ns, resource_id,
        TRY_CAST(attributes AS MAP(VARCHAR, JSON)) AS attributes
    FROM logs JOIN sampled ON logs.rowid = log
),
item_span AS (
    SELECT item.item, item.span_id, spans.span_id AS own_span_id, TRY_CAST(spans.attributes AS MAP(VARCHAR, JSON)) AS attributes
    FROM spans JOIN item USING (trace_id)
),
item_attribute AS (
    SELECT item, unnest(map_keys(attributes)) AS key, unnest(map_values(attributes)) AS value FROM item
    UNION ALL
    SELECT item, unnest(map_keys(attributes)), unnest(map_values(attributes)) FROM item_span WHERE span_id = own_span_id
),
property AS (
    SELECT item, '' AS kind, '' AS key, '""'::JSON AS value FROM item
    UNION ALL
    SELECT item, 'attribute', key, value FROM item_attribute WHERE key <> 'ml.prediction.inputs'
    UNION ALL
    SELECT item, 'attribute', 'ml.prediction.true_label', to_json(true_label)
    FROM item JOIN label ON prediction_id = attributes['ml.prediction.id'] ->> '$'
    WHERE true_label IS NOT NULL
    UNION ALL
    SELECT item, 'feature', unnest(map_keys(inputs)), unnest(map_values(inputs))
    FROM (SELECT item, TRY_CAST(attributes['ml.prediction.inputs'] AS MAP(VARCHAR, JSON)) AS inputs FROM item)
    UNION ALL
    SELECT item, 'resource', unnest(map_keys(attributes)), unnest(map_values(attributes))
    FROM (
        SELECT item, TRY_CAST(resource_attributes AS MAP(VARCHAR, JSON)) AS attributes
        FROM item JOIN resources USING (resource_id)
    )
),
{property_counts}
