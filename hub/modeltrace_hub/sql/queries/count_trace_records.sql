-- The number of records of a trace, and the tokens of its LLM calls. A page may show fewer.
SELECT
    coalesce((SELECT span_count FROM traces WHERE trace_id = $trace_id), 0) AS span_count,
    coalesce((SELECT log_count FROM traces WHERE trace_id = $trace_id), 0) AS log_count,
    (
        SELECT count(DISTINCT {prediction_identity})
        FROM logs
        WHERE trace_id = $trace_id AND event_name = 'ml.prediction' AND received_ns BETWEEN $first_received_ns AND $last_received_ns
    ) AS prediction_count,
    (SELECT count(*) FROM exemplars WHERE trace_id = $trace_id) AS exemplar_count,
    coalesce((SELECT llm_call_count FROM traces WHERE trace_id = $trace_id), 0) AS llm_call_count,
    (SELECT input_tokens FROM traces WHERE trace_id = $trace_id) AS input_tokens,
    (SELECT output_tokens FROM traces WHERE trace_id = $trace_id) AS output_tokens
