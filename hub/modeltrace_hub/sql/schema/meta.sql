-- Properties of the file: `schema` (version of the schema) and `pruned_before_ns` (rows received earlier are deleted).
CREATE TABLE meta (
    key VARCHAR PRIMARY KEY,
    value VARCHAR NOT NULL
);
