-- The resources that meet the conditions.
SELECT resource_id FROM resources WHERE true{conditions}
