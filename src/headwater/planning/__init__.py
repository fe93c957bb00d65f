"""Planning: pure functions from (registry snapshot, source schemas, request) to a plan."""
