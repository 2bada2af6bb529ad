-- One row per log record.
CREATE TABLE logs (
    received_ns BIGINT NOT NULL,
    time_ns BIGINT NOT NULL,                 -- time of the event; if not sent, when it was observed, or else received
    observed_time_ns BIGINT,
    trace_id VARCHAR,                        -- NULL: written outside a span
    span_id VARCHAR,
    flags UINTEGER NOT NULL,                 -- W3C trace flags (bits 0-7)
    severity_number INTEGER NOT NULL,        -- 1 to 24 (9: INFO, 13: WARN, 17: ERROR); 0: not sent
    severity_text VARCHAR NOT NULL,          -- as the sender wrote it
    event_name VARCHAR NOT NULL,             -- '' if the record is not an event
    body VARCHAR,                            -- text, or JSON if the body is not a string
    body_structured BOOLEAN NOT NULL,        -- whether `body` is JSON
    attributes JSON NOT NULL,
    dropped_attributes_count UINTEGER NOT NULL,
    service_name VARCHAR NOT NULL,
    service_instance_id VARCHAR NOT NULL,
    resource_id VARCHAR NOT NULL,
    scope_id VARCHAR NOT NULL
);
