-- Properties of the file. `schema` is the version of the schema. Rows that arrived before `pruned_before_ns` are
-- deleted.
CREATE TABLE meta (
    key VARCHAR PRIMARY KEY,
    value VARCHAR NOT NULL
);
