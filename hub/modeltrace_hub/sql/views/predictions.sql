-- One row per prediction log record.
SELECT
    make_timestamp(time_ns // 1000) AS time,
    time_ns,
    trace_id,
    span_id,
    attributes ->> '/ml.prediction.id' AS prediction_id,
    attributes ->> '/ml.prediction.external_id' AS external_id,
    TRY_CAST(attributes ->> '/ml.prediction.row' AS BIGINT) AS row_number,
    attributes ->> '/ml.model.name' AS model,
    attributes ->> '/ml.model.version' AS version,
    coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value') AS output,
    TRY_CAST(attributes ->> '/ml.prediction.confidence' AS DOUBLE) AS confidence,
    TRY_CAST(attributes ->> '/ml.prediction.interval.low' AS DOUBLE) AS interval_low,
    TRY_CAST(attributes ->> '/ml.prediction.interval.high' AS DOUBLE) AS interval_high,
    TRY_CAST(attributes ->> '/ml.prediction.interval.level' AS DOUBLE) AS interval_level,
    CAST(attributes -> '/ml.prediction.inputs' AS VARCHAR) AS inputs,
    CAST(attributes AS VARCHAR) AS attributes,
    service_name AS service
FROM logs
WHERE event_name = 'ml.prediction'
