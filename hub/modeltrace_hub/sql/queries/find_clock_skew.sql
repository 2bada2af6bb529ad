-- Pairs of service instances of which the called one starts before its caller: their clocks differ by at least the time
-- between both starts.
SELECT
    child.service_name AS service_name, parent.service_name AS other_service_name, count(*) AS record_count,
    max(parent.start_ns - child.start_ns) AS skew_ns, arg_max(child.trace_id, parent.start_ns - child.start_ns, 3) AS trace_ids
FROM spans AS child
JOIN spans AS parent ON
    parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id
    AND parent.service_instance_id <> child.service_instance_id
WHERE
    child.received_ns >= $since_ns AND child.start_ns > 0 AND parent.start_ns > 0
    AND parent.start_ns - child.start_ns > $min_skew_ns
GROUP BY child.service_name, parent.service_name
ORDER BY skew_ns DESC
LIMIT $limit
