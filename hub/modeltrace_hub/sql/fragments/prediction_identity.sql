-- Identifies a prediction log record. A sender that gets no response sends again, so a record may be stored twice.
hash(attributes, span_id, time_ns, service_name, service_instance_id)
