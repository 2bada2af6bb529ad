-- Traces that meet the conditions, newest first. With conditions on spans, a trace has a span that meets all of them.
SELECT
    trace_id, name, kind, service_name, services, start_ns, duration_ns, span_count, error_count, status_code, output,
    confidence, batch_size, llm_call_count, llm_models, input_tokens, output_tokens
FROM traces
WHERE
    span_count > 0
    AND start_ns <= $before_ns AND (start_ns < $before_ns OR trace_id < $before_id){conditions}
ORDER BY start_ns DESC, trace_id DESC
LIMIT $limit
