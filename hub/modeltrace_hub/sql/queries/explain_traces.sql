-- The properties of two sets of traces, with the number of traces of each set that have them. `{selected}` and
-- `{against}` define the sets. Each set has a random sample of at most `$max_items` traces.
WITH candidate AS (
    SELECT trace_id, start_ns AS item_ns, CASE WHEN {selected} THEN true WHEN {against} THEN false END AS selected
    FROM traces
    WHERE span_count > 0{conditions}
),
item AS MATERIALIZED (
    SELECT *, row_number() OVER () AS item
    FROM (
        SELECT trace_id, item_ns, selected, count(*) OVER (PARTITION BY selected) AS total
        FROM candidate
        WHERE selected IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY selected ORDER BY hash(trace_id), trace_id) <= $max_items
    )
),
item_span AS MATERIALIZED (
    SELECT
        item, service_name, name, status_code, resource_id, {span_duration} AS duration,
        TRY_CAST(attributes AS MAP(VARCHAR, JSON)) AS attributes
    FROM spans JOIN item USING (trace_id)
),
item_log AS MATERIALIZED (
    SELECT item, event_name, resource_id, TRY_CAST(attributes AS MAP(VARCHAR, JSON)) AS attributes
    FROM logs JOIN item USING (trace_id)
    WHERE event_name IN ('ml.prediction', 'ml.data.violation')
),
item_attribute AS (
    SELECT item, unnest(map_keys(attributes)) AS key, unnest(map_values(attributes)) AS value FROM item_span
    UNION ALL
    SELECT item, unnest(map_keys(attributes)), unnest(map_values(attributes))
    FROM item_log WHERE event_name = 'ml.prediction'
),
property AS (
    SELECT item, '' AS kind, '' AS key, '""'::JSON AS value FROM item
    UNION ALL
    SELECT item, 'attribute', key, value FROM item_attribute WHERE key <> 'ml.prediction.inputs'
    UNION ALL
    SELECT item, 'feature', unnest(map_keys(inputs)), unnest(map_values(inputs))
    FROM (SELECT item, TRY_CAST(value AS MAP(VARCHAR, JSON)) AS inputs FROM item_attribute WHERE key = 'ml.prediction.inputs')
    UNION ALL
    SELECT
        item, 'violation', coalesce(attributes['ml.feature.name'] ->> '$', ''),
        coalesce(attributes['ml.data.violation.reason'], '""')
    FROM item_log WHERE event_name = 'ml.data.violation'
    UNION ALL
    SELECT item, 'resource', unnest(map_keys(attributes)), unnest(map_values(attributes))
    FROM (
        SELECT item, TRY_CAST(resource_attributes AS MAP(VARCHAR, JSON)) AS attributes
        FROM (SELECT DISTINCT item, resource_id FROM item_span) JOIN resources USING (resource_id)
    )
    UNION ALL
    SELECT item, 'span', service_name, to_json(name) FROM item_span
    UNION ALL
    SELECT item, 'failed span', service_name, to_json(name) FROM item_span WHERE status_code = 'ERROR'
    UNION ALL
    SELECT item, 'duration', service_name || ': ' || name, to_json(duration) FROM item_span WHERE duration IS NOT NULL
),
{property_counts}
