-- The newest `$records` records of the table `$table`, `spans` or `logs`, or the newest spans of LLM applications if it
-- is `llm_calls`. Of log records, those of the event `$event`, or of all events if it is NULL.
newest_record AS (
    SELECT *, {llm_call_columns}
    FROM (
        SELECT attributes, service_name, name, kind, NULL AS event_name, NULL AS scope_name, NULL AS severity_number
        FROM (
            SELECT * FROM spans
            WHERE
                $table = 'spans'
                OR (
                    $table = 'llm_calls'
                    AND (contains(attributes::VARCHAR, '"gen_ai.') OR contains(attributes::VARCHAR, '"openinference.'))
                )
            ORDER BY received_ns DESC
            LIMIT $records
        )
        UNION ALL
        SELECT attributes, service_name, NULL, NULL, event_name, scope_name, severity_number
        FROM (
            SELECT * FROM logs
            WHERE $table = 'logs' AND ($event IS NULL OR event_name = $event)
            ORDER BY received_ns DESC
            LIMIT $records
        ) JOIN scopes USING (scope_id)
    )
)
