-- Equal for the audit record of a prediction that was sent again, and for nothing else.
hash(attributes, span_id, time_ns, service_name, service_instance_id)
