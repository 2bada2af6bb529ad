-- The number of records of a trace. A page may show fewer.
SELECT
    (SELECT count(DISTINCT {span_identity}) FROM spans WHERE trace_id = $trace_id) AS span_count,
    (SELECT count(*) FROM logs WHERE trace_id = $trace_id) AS log_count,
    (
        SELECT count(DISTINCT {prediction_identity}) FROM logs WHERE trace_id = $trace_id AND event_name = 'ml.prediction'
    ) AS prediction_count,
    (SELECT count(*) FROM exemplars WHERE trace_id = $trace_id) AS exemplar_count
