-- The text of a log record with its hexadecimal IDs and its numbers replaced, so that similar records have the same.
regexp_replace(
    regexp_replace(coalesce(body, event_name), '\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b', '<id>', 'g'),
    '[0-9]+(?:[.,:][0-9]+)*', '<n>', 'g'
)
