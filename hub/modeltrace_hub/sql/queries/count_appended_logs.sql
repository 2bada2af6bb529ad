-- The number of log records, that of the records from row number `$next_row` on, the row number of the next record, and
-- what identifies the last deletion by retention.
SELECT
    (SELECT count(*) FROM logs) AS rows,
    (SELECT count(*) FROM logs WHERE rowid >= $next_row) AS appended,
    (SELECT coalesce(max(rowid), -1) + 1 FROM logs) AS next_row,
    (SELECT value FROM meta WHERE key = 'pruned_before_ns') AS deletion
