-- One row per span. A span that was sent twice has two rows; SELECT DISTINCT removes the second one.
SELECT
    make_timestamp(start_ns // 1000) AS time,
    start_ns AS time_ns,
    trace_id,
    span_id,
    parent_span_id,
    name,
    kind,
    service_name AS service,
    service_instance_id AS instance,
    {span_duration} / 1e6 AS duration_ms,
    status_code AS status,
    status_message,
    CAST(attributes AS VARCHAR) AS attributes,
    CAST(events AS VARCHAR) AS events,
    CAST(links AS VARCHAR) AS links,
    CAST(resource_attributes AS VARCHAR) AS resource,
    scope_name AS scope
FROM spans {resource_and_scope}
