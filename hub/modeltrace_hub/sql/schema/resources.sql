-- One row per distinct resource of all senders. The row is deleted with the last record that refers to it.
CREATE TABLE resources (
    resource_id VARCHAR NOT NULL,            -- a hash of the other columns: see hub/modeltrace_hub/decode/resource.py
    resource_attributes JSON NOT NULL,
    resource_dropped_attributes_count UINTEGER NOT NULL,
    resource_entity_refs JSON NOT NULL,      -- [{schema_url, type, id_keys, description_keys}]
    resource_schema_url VARCHAR NOT NULL
);
