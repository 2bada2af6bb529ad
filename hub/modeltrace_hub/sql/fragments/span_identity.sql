-- Identifies a span. A sender that gets no response sends again, so a span may be stored twice. Different spans of a
-- trace may have the same ID, so the hash covers all columns except the time of arrival. The IDs of resource and scope
-- identify all their columns.
hash(
    trace_id, span_id, parent_span_id, trace_state, flags, name, kind, start_ns, end_ns, status_code, status_message,
    attributes, dropped_attributes_count, events, dropped_events_count, links, dropped_links_count,
    resource_id, scope_id
)
