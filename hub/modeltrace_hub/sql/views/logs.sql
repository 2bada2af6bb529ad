-- One row per log record.
SELECT
    make_timestamp(time_ns // 1000) AS time,
    time_ns,
    trace_id,
    span_id,
    severity_number,
    severity_text AS severity,
    event_name AS event,
    body,
    service_name AS service,
    service_instance_id AS instance,
    CAST(attributes AS VARCHAR) AS attributes,
    CAST(resource_attributes AS VARCHAR) AS resource,
    scope_name AS scope
FROM logs {resource_and_scope}
