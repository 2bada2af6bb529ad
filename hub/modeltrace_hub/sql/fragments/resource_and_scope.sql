-- Adds the columns of the resource and of the scope to records that have their IDs.
JOIN resources USING (resource_id) JOIN scopes USING (scope_id)
