-- One row per distinct scope: a tracer, meter or logger. The row is deleted with the last record that refers to it.
CREATE TABLE scopes (
    scope_id VARCHAR NOT NULL,               -- a hash of the other columns: see hub/modeltrace_hub/decode/resource.py
    scope_name VARCHAR NOT NULL,
    scope_version VARCHAR NOT NULL,
    scope_attributes JSON NOT NULL,
    scope_dropped_attributes_count UINTEGER NOT NULL,
    scope_schema_url VARCHAR NOT NULL
);
