-- Identifies a span. A sender that gets no response sends again, so a span may be stored twice. Different spans of a
-- trace may have the same ID, so the hash covers all columns except the time of arrival.
hash(
    trace_id, span_id, parent_span_id, trace_state, flags, name, kind, start_ns, end_ns, status_code, status_message,
    attributes, dropped_attributes_count, events, dropped_events_count, links, dropped_links_count,
    service_name, service_instance_id, resource_attributes, resource_dropped_attributes_count, resource_entity_refs,
    resource_schema_url, scope_name, scope_version, scope_attributes, scope_dropped_attributes_count, scope_schema_url
)
