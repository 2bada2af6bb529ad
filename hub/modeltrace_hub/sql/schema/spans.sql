-- One row per span. Resource and scope are rows of their own, because a resource may be large and has many records. The
-- service is repeated in every row, because most queries need it. There are no foreign keys between tables: logs and
-- exemplars may arrive before their spans.
--
-- In all tables: times are unix nanoseconds, IDs are lower-case hex, NULL means "not sent", and attributes are one JSON
-- object (see hub/modeltrace_hub/decode/values.py). The decoders append rows in the order of the columns.
CREATE TABLE spans (
    received_ns BIGINT NOT NULL,             -- arrival at the hub; the age limit applies to it
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    parent_span_id VARCHAR,                  -- NULL: a root span
    trace_state VARCHAR NOT NULL,            -- W3C tracestate; '' if there is none
    flags UINTEGER NOT NULL,                 -- bits 0-7: W3C trace flags; bit 8: bit 9 is valid; bit 9: remote parent
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,                   -- INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER, UNSPECIFIED or a number
    start_ns BIGINT NOT NULL,
    end_ns BIGINT NOT NULL,
    duration_ns BIGINT NOT NULL,             -- end - start; may be negative
    status_code VARCHAR NOT NULL,            -- UNSET, OK, ERROR or a number
    status_message VARCHAR NOT NULL,
    attributes JSON NOT NULL,
    dropped_attributes_count UINTEGER NOT NULL,
    events JSON NOT NULL,                    -- [{time_ns, name, attributes, dropped_attributes_count}]
    dropped_events_count UINTEGER NOT NULL,
    links JSON NOT NULL,                     -- [{trace_id, span_id, trace_state, flags, attributes, dropped_attributes_count}]
    dropped_links_count UINTEGER NOT NULL,
    service_name VARCHAR NOT NULL,           -- service.name of the resource; '' if there is none
    service_instance_id VARCHAR NOT NULL,    -- service.instance.id of the resource; '' if there is none
    resource_id VARCHAR NOT NULL,            -- row of `resources`
    scope_id VARCHAR NOT NULL                -- row of `scopes`
);
