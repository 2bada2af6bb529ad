-- Equal for copies of one span, which a sender sends again when it gets no response; else different. A trace may have
-- two spans with one ID, so the hash covers all columns but the time of arrival.
hash(
    trace_id, span_id, parent_span_id, trace_state, flags, name, kind, start_ns, end_ns, status_code, status_message,
    attributes, dropped_attributes_count, events, dropped_events_count, links, dropped_links_count,
    service_name, service_instance_id, resource_attributes, resource_dropped_attributes_count, resource_entity_refs,
    resource_schema_url, scope_name, scope_version, scope_attributes, scope_dropped_attributes_count, scope_schema_url
)
