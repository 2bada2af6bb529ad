-- What the file says about itself: `schema` (the stamp), and `pruned_before_ns` (rows received earlier are gone).
CREATE TABLE meta (
    key VARCHAR PRIMARY KEY,
    value VARCHAR NOT NULL
);
