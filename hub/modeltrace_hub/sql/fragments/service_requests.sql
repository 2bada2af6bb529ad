-- The requests of each service from `$since_ns` until before `$until_ns`: its SERVER and CONSUMER spans and those without
-- a parent, or, of a service that has none of these, all its spans.
window_span AS (
    SELECT
        service_name, service_instance_id, resource_id, start_ns, {span_duration} AS duration_ns, received_ns,
        status_code = 'ERROR' AS failed,
        kind IN ('SERVER', 'CONSUMER') OR parent_span_id IS NULL AS is_entry
    FROM spans
    WHERE start_ns >= $since_ns AND start_ns < $until_ns AND received_ns >= $since_ns - {max_clock_skew_ns}
),
request AS (
    SELECT *
    FROM window_span
    QUALIFY is_entry OR NOT bool_or(is_entry) OVER (PARTITION BY service_name)
)
