-- One row per trace with spans.
SELECT
    make_timestamp(start_ns // 1000) AS time,
    start_ns AS time_ns,
    trace_id,
    name,
    kind,
    service_name AS service,
    services,
    duration_ns / 1e6 AS duration_ms,
    span_count,
    error_count,
    log_count,
    status_code,
    output,
    confidence,
    batch_size,
    llm_call_count,
    llm_models,
    input_tokens,
    output_tokens
FROM traces
WHERE span_count > 0
