-- One row a span. The resource and scope stand in every row: dictionary compression makes the repetition cheap and
-- no question needs a join. No key ties signals together: logs and exemplars may arrive before their spans.
--
-- In all tables: times are unix nanoseconds, IDs lower-case hex, NULL is "not sent", attributes are one JSON object
-- (hub/modeltrace_hub/decode/values.py says how values are written). Columns stand in the order in which rows are appended.
CREATE TABLE spans (
    received_ns BIGINT NOT NULL,             -- when the hub took it: the order of arrival, what retention goes by
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    parent_span_id VARCHAR,                  -- NULL: a root
    trace_state VARCHAR NOT NULL,            -- W3C tracestate, '' when none
    flags UINTEGER NOT NULL,                 -- W3C trace flags (bits 0-7), bit 8: "is remote" is known, bit 9: is remote
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,                   -- UNSPECIFIED INTERNAL SERVER CLIENT PRODUCER CONSUMER; else its number
    start_ns BIGINT NOT NULL,
    end_ns BIGINT NOT NULL,
    duration_ns BIGINT NOT NULL,             -- end - start, so that lists sort and filter without computing; may be < 0
    status_code VARCHAR NOT NULL,            -- UNSET OK ERROR; else its number
    status_message VARCHAR NOT NULL,
    attributes JSON NOT NULL,
    dropped_attributes_count UINTEGER NOT NULL,
    events JSON NOT NULL,                    -- [{time_ns, name, attributes, dropped_attributes_count}], shown with the span only
    dropped_events_count UINTEGER NOT NULL,
    links JSON NOT NULL,                     -- [{trace_id, span_id, trace_state, flags, attributes, dropped_attributes_count}]
    dropped_links_count UINTEGER NOT NULL,
    service_name VARCHAR NOT NULL,           -- resource's service.name, '' when it has none
    service_instance_id VARCHAR NOT NULL,    -- resource's service.instance.id, '' when it has none
    resource_attributes JSON NOT NULL,
    resource_dropped_attributes_count UINTEGER NOT NULL,
    resource_entity_refs JSON NOT NULL,      -- [{schema_url, type, id_keys, description_keys}]
    resource_schema_url VARCHAR NOT NULL,
    scope_name VARCHAR NOT NULL,             -- the tracer
    scope_version VARCHAR NOT NULL,
    scope_attributes JSON NOT NULL,
    scope_dropped_attributes_count UINTEGER NOT NULL,
    scope_schema_url VARCHAR NOT NULL
);
