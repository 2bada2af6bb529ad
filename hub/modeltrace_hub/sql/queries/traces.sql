-- Traces that started in a window, newest first: those with a span that fits the filters, as a whole.
-- Their spans are looked for a slack around the window, so that the latest hundred of millions are found in few rows.
WITH {listed_spans},
fitting AS (
    SELECT DISTINCT trace_id
    FROM listed
    WHERE listed_ns >= $floor_ns{filters}
),
chosen AS (
    SELECT
        trace_id,
        min(listed_ns) AS trace_start_ns,
        -- Of the spans that say when they started and ended; NULL if none does.
        max(end_ns) FILTER (start_ns > 0 AND end_ns >= start_ns)
        - min(start_ns) FILTER (start_ns > 0 AND end_ns >= start_ns) AS trace_duration_ns
    FROM listed
    WHERE trace_id IN (FROM fitting)
    GROUP BY trace_id
    HAVING
        trace_start_ns BETWEEN $floor_ns AND $ceiling_ns
        AND (trace_start_ns < $before_ns OR (trace_start_ns = $before_ns AND trace_id < $before_id)){having}
    ORDER BY trace_start_ns DESC, trace_id DESC
    LIMIT $limit
),
summary AS (
    SELECT
        trace_id,
        any_value(trace_start_ns) AS start_ns,
        any_value(trace_duration_ns) AS duration_ns,
        count(DISTINCT {span_identity}) AS span_count,
        count(DISTINCT {span_identity}) FILTER (status_code = 'ERROR') AS error_count,
        list_sort(list(DISTINCT service_name)) AS services,
        -- The root if it is here, else the earliest span.
        arg_min(
            {'name': name, 'kind': kind, 'service_name': service_name, 'attributes': attributes},
            (parent_span_id IS NOT NULL, listed_ns, span_id)
        ) AS root,
        -- What was predicted stands on the span of the request.
        arg_min(attributes, listed_ns) FILTER (
            kind = 'SERVER'
            AND (json_exists(attributes, '/ml.prediction.id') OR json_exists(attributes, '/ml.inference.batch.size'))
        ) AS request
    FROM listed
    JOIN chosen USING (trace_id)
    GROUP BY trace_id
)
SELECT
    trace_id,
    root.name AS name,
    root.kind AS kind,
    root.service_name AS service_name,
    services,
    start_ns,
    duration_ns,
    span_count,
    error_count,
    TRY_CAST(root.attributes ->> '/http.response.status_code' AS INTEGER) AS status_code,
    coalesce(request ->> '/ml.prediction.label', request ->> '/ml.prediction.value') AS label,
    TRY_CAST(request ->> '/ml.prediction.confidence' AS DOUBLE) AS confidence,
    TRY_CAST(request ->> '/ml.inference.batch.size' AS BIGINT) AS rows
FROM summary
ORDER BY start_ns DESC, trace_id DESC
