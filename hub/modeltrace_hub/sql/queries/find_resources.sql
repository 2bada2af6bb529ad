-- The resources that have an attribute with a value.
SELECT resource_id FROM resources WHERE json_extract_string(resource_attributes, $key) = $value
