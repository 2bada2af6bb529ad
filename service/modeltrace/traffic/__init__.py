"""`modeltrace traffic`: generated requests, injected faults and true labels."""
