-- When the newest span up to a time started: where the search for the newest traces begins.
SELECT max(start_ns) AS start_ns FROM spans WHERE start_ns <= $ceiling_ns
