-- Equal for copies of one prediction log record, which a sender sends again when it gets no response; else different.
hash(attributes, span_id, time_ns, service_name, service_instance_id)
