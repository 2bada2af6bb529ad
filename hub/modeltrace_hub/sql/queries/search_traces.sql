-- Traces that started in a window and have a span that matches the conditions, newest first.
-- The spans of a trace are searched only close to the window, so that few rows are read.
WITH {spans_in_window},
matching AS (
    SELECT DISTINCT trace_id
    FROM in_window
    WHERE effective_ns >= $floor_ns{conditions}
),
page AS (
    SELECT
        trace_id,
        min(effective_ns) AS trace_start_ns,
        -- Computed from the spans that have a start and an end; NULL if there are none.
        max(end_ns) FILTER (start_ns > 0 AND end_ns >= start_ns)
        - min(start_ns) FILTER (start_ns > 0 AND end_ns >= start_ns) AS trace_duration_ns
    FROM in_window
    WHERE trace_id IN (FROM matching)
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
        -- The root span if it is stored, else the earliest span.
        arg_min(
            {'name': name, 'kind': kind, 'service_name': service_name, 'attributes': attributes},
            (parent_span_id IS NOT NULL, effective_ns, span_id)
        ) AS root,
        -- The SERVER span of a request has the attributes of its prediction.
        arg_min(attributes, effective_ns) FILTER (
            kind = 'SERVER'
            AND (json_exists(attributes, '/ml.prediction.id') OR json_exists(attributes, '/ml.inference.batch.size'))
        ) AS request
    FROM in_window
    JOIN page USING (trace_id)
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
    coalesce(request ->> '/ml.prediction.label', request ->> '/ml.prediction.value') AS output,
    TRY_CAST(request ->> '/ml.prediction.confidence' AS DOUBLE) AS confidence,
    TRY_CAST(request ->> '/ml.inference.batch.size' AS BIGINT) AS batch_size
FROM summary
ORDER BY start_ns DESC, trace_id DESC
